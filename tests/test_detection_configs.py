"""What the detection configs say of the paper: schedules, losses, metrics."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

import mmdet
from mmdet.registry import DATASETS, MODELS

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / 'configs'
DETECTORS = {
    'faster_rcnn': 'faster-rcnn',
    'mask_rcnn': 'mask-rcnn',
    'retinanet': 'retinanet',
}
COCO = [
    f'{folder}/{name}_{backbone}_fpn_2x_coco.py'
    for folder, name in DETECTORS.items()
    for backbone in ('r50', 'ba2m-r50', 'r101', 'ba2m-r101')
]
VOC = [
    f'pascal_voc/{name}_voc0712.py'
    for name in (
        'faster-rcnn_r50_fpn_1x',
        'faster-rcnn_r50_fpn_ohem_1x',
        'faster-rcnn_ba2m-r50_fpn_1x',
        'retinanet_r50_fpn_1x',
        'retinanet_r50_fpn_softmax_1x',
        'retinanet_ba2m-r50_fpn_1x',
        'retinanet_ba2m-r50_fpn_softmax_1x',
        'mask-rcnn_r50_fpn_2x',
        'mask-rcnn_ba2m-r50_fpn_2x',
    )
]


ATTENTION = [
    f'attention/faster-rcnn_{name}_fpn_2x_coco.py'
    for name in (
        'aw-conv-r50',
        'aw-conv-r101',
        'saam-r50',
        'bav1-r50',
        'bav2-r50',
    )
]


@cache  # what a test changes it loads itself
def load(path):
    return Config.fromfile(CONFIGS / path)


@pytest.mark.parametrize('path', COCO + ATTENTION)
def test_coco_schedule_is_the_papers(path):
    cfg = load(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('SGD', 0.01)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert cfg.train_cfg.max_epochs == 24
    steps = cfg.param_scheduler[1]
    assert (steps.type, steps.gamma) == ('MultiStepLR', 0.1)
    assert steps.milestones == [16, 22]


@pytest.mark.parametrize(
    'path', [path for path in COCO if 'r50' in path and 'ba2m' not in path]
)
def test_rate_per_image_is_that_of_mmdetection(path):
    # by the linear rule, as the paper keeps MMDetection's other settings
    def rate(cfg):
        batch = cfg.auto_scale_lr.base_batch_size
        return cfg.optim_wrapper.optimizer.lr / batch

    stock = Path(mmdet.__file__).parent / '.mim/configs' / path
    assert rate(load(path)) == pytest.approx(rate(Config.fromfile(stock)))


def difference(one, other, prefix=''):
    """The keys in which two configs differ."""
    keys = set()
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            keys |= difference(a, b, f'{prefix}{key}.')
        elif a != b:
            keys.add(f'{prefix}{key}')
    return keys


@pytest.mark.parametrize(
    'path', [path for path in COCO + VOC if 'ba2m' in path]
)
def test_only_the_backbone_sets_a_config_apart_from_its_baseline(path):
    cfg, plain = load(path), load(path.replace('ba2m-', ''))
    assert difference(cfg, plain) == {
        'model.backbone.type',
        'model.backbone.ba2m_cfg',
    }
    assert cfg.model.backbone.ba2m_cfg == dict(
        reduction=16, norm_cfg=dict(type='GN', num_groups=1)
    )


@pytest.mark.parametrize('path', ATTENTION)
def test_attention_is_all_that_differs(path):
    plain = load(f'faster_rcnn/faster-rcnn_{path.rpartition("-")[2]}')
    cfg = load(path)
    assert difference(cfg, plain) == {
        'model.backbone.type',
        'model.backbone.attention',
    }
    init_default_scope('mmdet')
    backbone, base = (
        MODELS.build({**c.model.backbone, 'init_cfg': None})
        for c in (cfg, plain)
    )
    # of the stages that are not frozen
    assert {name[:6] for name in backbone.attention_names} == {
        'layer2',
        'layer3',
        'layer4',
    }
    for name in backbone.attention_names:
        for parameter in backbone.get_submodule(name).parameters():
            assert parameter.requires_grad
    # a plain checkpoint fills all but the modules
    state = {key: value.shape for key, value in backbone.state_dict().items()}
    for key, value in base.state_dict().items():
        assert state.pop(key) == value.shape
    assert all(
        key.startswith(tuple(backbone.attention_names)) for key in state
    )
    # nothing new is a batch norm, which norm_eval would freeze as it is
    assert not any('running' in key for key in state)


@pytest.mark.parametrize(
    'path', [path for path in COCO + ATTENTION if 'r101' in path]
)
def test_only_depth_and_weights_set_resnet101_apart(path):
    cfg, shallow = load(path), load(path.replace('r101', 'r50'))
    assert difference(cfg, shallow) == {
        'model.backbone.depth',
        'model.backbone.init_cfg.checkpoint',
    }
    assert cfg.model.backbone.depth == 101
    assert cfg.model.backbone.init_cfg.checkpoint == 'torchvision://resnet101'
    assert shallow.model.backbone.init_cfg.checkpoint.endswith('resnet50')


@pytest.mark.parametrize('backbone', ['r50', 'ba2m-r50'])
def test_table_iii_changes_the_head_alone(backbone):
    focal = load(f'pascal_voc/retinanet_{backbone}_fpn_1x_voc0712.py')
    softmax = load(
        f'pascal_voc/retinanet_{backbone}_fpn_softmax_1x_voc0712.py'
    )
    assert {
        key.rpartition('loss_cls.')[0] or key
        for key in difference(focal, softmax)
    } == {'model.bbox_head.', 'model.bbox_head.type'}
    assert focal.model.bbox_head.loss_cls.type == 'FocalLoss'
    assert softmax.model.bbox_head.type == 'SoftmaxRetinaHead'
    assert softmax.model.bbox_head.loss_cls == dict(type='CrossEntropyLoss')


def test_table_iv_changes_the_sampler_alone():
    plain, ohem = (
        load(f'pascal_voc/faster-rcnn_r50_fpn_{name}1x_voc0712.py')
        for name in ('', 'ohem_')
    )
    assert difference(plain, ohem) == {'model.train_cfg.rcnn.sampler.type'}
    init_default_scope('mmdet')
    model = deepcopy(ohem.model)
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = [64, 128, 256, 512]
    sampler = MODELS.build(model).roi_head.bbox_sampler
    assert type(sampler).__name__ == 'OHEMSampler'
    assert (sampler.num, sampler.pos_fraction) == (512, 0.25)


@pytest.mark.parametrize('path', VOC)
def test_voc_metric_gives_what_the_tables_have(path):
    cfg = load(path)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        if 'mask-rcnn' in path:
            assert evaluator.type == 'CocoMetric'
            assert evaluator.metric == ['bbox', 'segm']
        else:
            assert evaluator == dict(
                type='mmba2m.VOCMetric', eval_mode='11points'
            )
    heads = cfg.model.get('bbox_head') or cfg.model.roi_head.bbox_head
    assert heads.num_classes == 20


def write_voc(root, split, names, label):
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
    for name in names:
        (root / f'JPEGImages/{name}.jpg').touch()
        (root / f'Annotations/{name}.xml').write_text(
            '<annotation><size><width>99</width><height>88</height></size>'
            f'<object><name>{label}</name><bndbox><xmin>1</xmin>'
            '<ymin>11</ymin><xmax>50</xmax><ymax>60</ymax></bndbox></object>'
            '</annotation>'
        )


@pytest.mark.parametrize('classes', [None, ['cell', 'plate']])
def test_both_years_of_voc_are_one_set(classes, tmp_path, monkeypatch):
    label = classes[1] if classes else 'dog'
    write_voc(tmp_path / 'VOC2007', 'trainval', ['000001', '000002'], label)
    write_voc(tmp_path / 'VOC2012', 'trainval', ['2012_000001'], label)
    monkeypatch.setenv('VOC_ROOT', str(tmp_path))
    cfg = Config.fromfile(CONFIGS / VOC[0])
    if classes:  # as the README of the configs says
        prefix = 'train_dataloader.dataset.dataset.datasets'
        cfg.merge_from_dict(
            {f'{prefix}.{i}.metainfo.classes': classes for i in (0, 1)}
        )
    init_default_scope('mmdet')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 3 * 3
    names = [dataset.get_data_info(i)['img_id'] for i in range(4)]
    assert names == ['000001', '000002', '2012_000001', '000001']
    (instance,) = dataset.get_data_info(2)['instances']
    assert dataset.metainfo['classes'][instance['bbox_label']] == label
    assert instance['bbox'] == [0, 10, 49, 59]


def test_rows_of_the_paper_name_the_configs():
    tables = yaml.safe_load(
        (ROOT / 'tools/tables/paper_rows/detection.yml').read_text()
    )
    named = {
        table['table']: [row['config'] for row in table['rows']]
        for table in tables
    }
    assert list(named) == ['III', 'IV', 'XIV', 'XV', 'XVI']
    assert named['XIV'] == [f'configs/{path}' for path in COCO[:4]]
    assert named['XV'] == [f'configs/{path}' for path in COCO[4:8]]
    assert named['XVI'] == named['XV']
    assert set(named['III'] + named['IV']) == {
        f'configs/{path}' for path in VOC if 'mask-rcnn' not in path
    }


@pytest.mark.parametrize(
    'folder', [*DETECTORS, 'attention', 'pascal_voc', 'bccd', 'demo']
)
def test_metafile_lists_the_configs_of_its_folder(folder):
    metafile = yaml.safe_load((CONFIGS / folder / 'metafile.yml').read_text())
    # those of a folder of both tasks are in test_classification_configs.py
    other = '_in1k.py', '_cifar100.py'
    found = {
        path.name: path
        for path in (CONFIGS / folder).glob('*.py')
        if not path.name.endswith(other)
    }
    listed = {
        Path(model['Config']).name: model
        for model in metafile['Models']
        if not model['Config'].endswith(other)
    }
    assert listed.keys() == found.keys()
    for name, model in listed.items():
        assert model['Name'] == Path(name).stem
        assert ROOT / model['Config'] == found[name]
        cfg = load(f'{folder}/{name}')
        repeats = cfg.train_dataloader.dataset.get('times', 1)
        epochs = cfg.train_cfg.max_epochs * repeats
        assert model['Metadata']['Epochs'] == epochs
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert f'configs/{folder}/metafile.yml' in index['Import']
