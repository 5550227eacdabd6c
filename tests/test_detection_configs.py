"""What the detection configs say of the paper: schedules, losses, metrics."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm

pytest.importorskip('mmdet')

import mmdet
from mmdet.registry import DATASETS

CONFIGS = Path(__file__).parent.parent / 'configs'
PATHS = sorted(
    path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('*/*.py')
)
COCO = [path for path in PATHS if path.endswith('_2x_coco.py')]
ATTENTION = [path for path in COCO if path.startswith('attention/')]
VOC = [path for path in PATHS if path.startswith('pascal_voc/')]
FASTER_RCNN = 'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'


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


def test_coco_schedule_is_the_papers(load_config):
    for path in COCO:
        cfg = load_config(path)
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr) == ('SGD', 0.01)
        assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
        assert cfg.train_cfg.max_epochs == 24
        steps = cfg.param_scheduler[1]
        assert (steps.type, steps.gamma) == ('MultiStepLR', 0.1)
        assert steps.milestones == [16, 22]
        if 'ba2m' in path:
            assert cfg.model.backbone.ba2m_cfg == dict(reduction=16)


def test_rate_per_image_is_that_of_mmdetection(load_config):
    # by the linear rule, as the paper keeps MMDetection's other settings
    def rate(cfg):
        batch = cfg.auto_scale_lr.base_batch_size
        return cfg.optim_wrapper.optimizer.lr / batch

    for path in COCO:
        if '_r50_' in path:
            stock = Path(mmdet.__file__).parent / '.mim/configs' / path
            stock = Config.fromfile(stock)
            assert rate(load_config(path)) == pytest.approx(rate(stock))


def test_voc_schedule_is_mmdetections(load_config):
    cfg = load_config(FASTER_RCNN)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4
    )
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_epochs == 4  # of a set repeated 3 times
    assert cfg.train_dataloader.dataset.times == 3
    (steps,) = cfg.param_scheduler
    assert (steps.milestones, steps.gamma) == ([3], 0.1)


@pytest.mark.parametrize('path', ATTENTION)
def test_new_modules_train_and_freeze_no_norm(path, build_network):
    backbone = build_network(path).backbone
    # of the stages that are not frozen
    stages = {name[:6] for name in backbone.attention_names}
    assert stages == {'layer2', 'layer3', 'layer4'}
    for name in backbone.attention_names:
        module = backbone.get_submodule(name)
        assert all(p.requires_grad for p in module.parameters())
        # norm_eval would freeze it as it is
        assert not any(isinstance(m, _BatchNorm) for m in module.modules())


@pytest.mark.parametrize('backbone', ['r50', 'ba2m-r50'])
def test_table_iii_changes_the_head_alone(backbone, load_config):
    name = f'pascal_voc/retinanet_{backbone}_fpn_{{}}1x_voc0712.py'
    focal = load_config(name.format(''))
    softmax = load_config(name.format('softmax_'))
    assert {
        key.rpartition('loss_cls.')[0] or key
        for key in difference(focal, softmax)
    } == {'model.bbox_head.', 'model.bbox_head.type'}
    assert focal.model.bbox_head.loss_cls.type == 'FocalLoss'
    assert softmax.model.bbox_head.type == 'SoftmaxRetinaHead'
    assert softmax.model.bbox_head.loss_cls == dict(type='CrossEntropyLoss')


def test_table_iv_changes_the_sampler_alone(load_config):
    plain = load_config(FASTER_RCNN)
    ohem = load_config(FASTER_RCNN.replace('_fpn_', '_fpn_ohem_'))
    assert difference(plain, ohem) == {'model.train_cfg.rcnn.sampler.type'}
    sampler = ohem.model.train_cfg.rcnn.sampler
    assert sampler.type == 'OHEMSampler'
    assert (sampler.num, sampler.pos_fraction) == (512, 0.25)


def test_voc_metric_gives_what_the_tables_have(load_config):
    for path in VOC:
        cfg = load_config(path)
        if 'ba2m' in path:
            assert cfg.model.backbone.ba2m_cfg == dict(reduction=16)
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


def test_both_years_of_voc_are_one_set(tmp_path, monkeypatch):
    write_voc(tmp_path / 'VOC2007', 'trainval', ['000001', '000002'], 'dog')
    write_voc(tmp_path / 'VOC2012', 'trainval', ['2012_000001'], 'cat')
    monkeypatch.setenv('VOC_ROOT', str(tmp_path))
    cfg = Config.fromfile(CONFIGS / FASTER_RCNN)
    init_default_scope('mmdet')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 3 * 3
    names = [dataset.get_data_info(i)['img_id'] for i in range(4)]
    assert names == ['000001', '000002', '2012_000001', '000001']
    (instance,) = dataset.get_data_info(2)['instances']
    assert dataset.metainfo['classes'][instance['bbox_label']] == 'cat'
    assert instance['bbox'] == [0, 10, 49, 59]
