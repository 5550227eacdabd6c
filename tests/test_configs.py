import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmba2m.datasets import SHAPES_CLASSES
from mmba2m.models.backbones.slots import find_attention, to_entries
from mmba2m.models.attentions.ba2m import BA2M

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)


def build_model(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def make_batch(cfg, model):
    """Two unequal images of a data set's kind, as its loader gives them."""
    size = (96, 128) if cfg.default_scope == 'mmdet' else (64, 64)
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        head = model.roi_head if hasattr(model, 'roi_head') else model
        return demo_mm_inputs(
            image_shapes=(3, *size),
            num_items=[3, 1],
            num_classes=head.bbox_head.num_classes,
            with_mask=getattr(head, 'with_mask', False),
        )
    from mmpretrain.structures import DataSample

    return dict(
        inputs=torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(label) for label in (0, 4)],
    )


#: regions take most of the time, and a few show what all do
FEW_REGIONS = {
    'model.train_cfg.rpn_proposal.max_per_img': 40,
    'model.train_cfg.rcnn.sampler.num': 32,
    'model.test_cfg.rpn.max_per_img': 40,
    'model.test_cfg.rcnn.max_per_img': 4,
}


@pytest.mark.filterwarnings('ignore:BA2M')
@pytest.mark.parametrize('path', CONFIGS)
def test_config_trains_a_step_and_predicts(path):
    cfg = Config.fromfile(ROOT / path)
    assert cfg.custom_imports.imports == ['mmba2m']
    # the start from ImageNet would be downloaded
    cfg.merge_from_dict({'model.backbone.init_cfg': None})
    if 'roi_head' in cfg.model:
        cfg.merge_from_dict(FEW_REGIONS)
    entries = to_entries(cfg.model.backbone.get('attention'))
    for entry in entries:
        if 'map_size' in entry:  # of images of 224×224, those here have 64
            entry['map_size'] = [n * 64 // 224 for n in entry['map_size']]
    model = build_model(cfg)
    model.init_weights()
    for entry in entries:
        cls = find_attention(entry['type'])
        assert any(isinstance(m, cls) for m in model.backbone.modules())
    modules = [m for m in model.backbone.modules() if isinstance(m, BA2M)]
    assert bool(modules) == ('ba2m' in Path(path).name)

    data = make_batch(cfg, model)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = copy.deepcopy(model.state_dict())
    loss = model.train().train_step(data, optim_wrapper)['loss']
    assert loss > 0 and loss.isfinite()
    # by weight decay also where the gradient is 0, but not where there is
    # none; what starts at 0, behind a norm that does, has neither
    for name, weight in model.named_parameters():
        assert weight.isfinite().all(), name
        if weight.requires_grad and weight.dim() > 1 and before[name].any():
            assert not torch.equal(weight, before[name]), name

    model.eval()
    with torch.no_grad():
        first, second = model.test_step(data)
    if cfg.default_scope == 'mmdet':
        for result in (first, second):
            assert result.pred_instances.bboxes.size(1) == 4
            if 'mask-rcnn' in path:
                shape = tuple(result.pred_instances.masks.shape[1:])
                assert shape == result.ori_shape
    else:
        scores = torch.stack([first.pred_score, second.pred_score])
        assert scores.shape == (2, model.head.num_classes)
        torch.testing.assert_close(scores.sum(1), torch.ones(2))


def test_config_builds_in_a_new_process_elsewhere(tmp_path):
    code = (
        'from mmengine.config import Config;'
        'from mmengine.registry import MODELS, init_default_scope;'
        f'cfg = Config.fromfile({str(ROOT / CONFIGS[0])!r});'
        'init_default_scope(cfg.default_scope); MODELS.build(cfg.model)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True)


def test_shapes_config_has_the_classes_of_the_generator():
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/shapes_detection.py')
    assert cfg.train_dataloader.dataset.metainfo.classes == SHAPES_CLASSES


@pytest.mark.parametrize(
    'path, variable, default',
    [
        ('faster_rcnn/faster-rcnn_ba2m-r50_fpn_2x_coco.py', 'COCO', 'coco'),
        (
            'pascal_voc/faster-rcnn_ba2m-r50_fpn_1x_voc0712.py',
            'VOC',
            'VOCdevkit',
        ),
        ('bccd/faster-rcnn_ba2m-r18_fpn_1x_bccd.py', 'BCCD', 'bccd'),
    ],
)
def test_data_root_follows_the_environment(
    path, variable, default, monkeypatch
):
    def roots():
        cfg = Config.fromfile(ROOT / 'configs' / path)
        text = cfg.pretty_text
        return 'elsewhere/of' in text, f'data/{default}' in text

    assert roots() == (False, True)
    monkeypatch.setenv(f'{variable}_ROOT', 'elsewhere/of')
    assert roots() == (True, False)


def test_coco_schedule_is_the_papers():
    cfg = Config.fromfile(
        ROOT / 'configs/faster_rcnn/faster-rcnn_ba2m-r50_fpn_2x_coco.py'
    )
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum) == (0.01, 0.9)
    assert optimizer.weight_decay == 1e-4
    assert cfg.train_cfg.max_epochs == 24
    assert cfg.param_scheduler[1].milestones == [16, 22]
    assert cfg.auto_scale_lr.base_batch_size == 8


def test_one_name_builds_the_backbone_of_either_host():
    for path, host in (
        ('demo/ba2m-resnet18_shapes.py', 'mmpretrain'),
        ('demo/faster-rcnn_ba2m-r18_fpn_shapes.py', 'mmdet'),
    ):
        cfg = Config.fromfile(ROOT / 'configs' / path)
        assert cfg.model.backbone.type == 'BA2MResNet'
        backbone = build_model(cfg).backbone
        assert type(backbone).__module__.endswith(f'.{host}_resnet')
        hosts = [c.__module__.split('.')[0] for c in type(backbone).__mro__]
        assert host in hosts
