import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmba2m import HOSTS
from mmba2m.checkpoints.stock_config import strip_config

needs_mmdet = pytest.mark.skipif('mmdet' not in HOSTS, reason='no mmdet')
CONTEXT = dict(type='ContextBlock', ratio=0.25)
OTHER = dict(cfg=CONTEXT, position='after_conv2')
PLUGIN = dict(cfg=dict(type='mmba2m.BA2M'), position='after_conv1')


def make_config(scope='mmdet', backbone='BA2MResNet', **options):
    imports = dict(imports=['mmba2m'], allow_failed_imports=False)
    model = dict(
        type='Network', backbone=dict(type=backbone, depth=18, **options)
    )
    return Config(
        dict(default_scope=scope, custom_imports=imports, model=model)
    )


@pytest.mark.parametrize(
    'scope, backbone, stock',
    [
        ('mmdet', 'BA2MResNet', 'ResNet'),
        ('mmdet', 'mmdet.BA2MResNet', 'ResNet'),
        ('mmdet', 'mmba2m.models.backbones.mmdet_resnet.BA2MResNet', 'ResNet'),
        ('mmpretrain', 'BA2MResNeXt', 'ResNeXt'),
        ('mmpretrain', 'BA2MResNet_CIFAR', 'ResNet_CIFAR'),
        # a backbone of the other host keeps its scope
        ('mmdet', 'mmpretrain.BA2MResNet', 'mmpretrain.ResNet'),
    ],
)
def test_backbones_become_the_hosts(scope, backbone, stock):
    if not {scope, backbone.split('.')[0]} - {'mmba2m', backbone} <= {*HOSTS}:
        pytest.skip('without that host')
    ours = dict(ba2m_stages=(0, 1, 1, 1), ba2m_cfg=dict(reduction=4))
    cfg = make_config(scope, backbone, frozen_stages=1, **ours)
    cfg.runner_type = 'mmba2m.Runner'
    before = cfg.pretty_text
    stripped, changes, left = strip_config(cfg)
    expected = make_config(scope, stock, frozen_stages=1)
    expected.pop('custom_imports')
    assert stripped.to_dict() == expected.to_dict()
    assert changes == [
        'no runner_type=mmba2m.Runner',
        f'model.backbone: {backbone} → {stock}',
        'custom_imports: no mmba2m',
    ]
    assert left == []
    assert cfg.pretty_text == before


@pytest.mark.parametrize('scope', HOSTS)
@pytest.mark.parametrize('backbone', ['BA2MResNet', 'AttentionResNet'])
@pytest.mark.parametrize('name', ['BA2M', 'mmba2m.BA2M'])
def test_attention_that_is_ba2m_goes_and_other_stays(scope, backbone, name):
    entry = dict(type=name, position='residual', scale_by_batch=False)
    cfg = make_config(scope, backbone, attention=entry)
    stripped, changes, left = strip_config(cfg)
    assert stripped.model.backbone == dict(type='ResNet', depth=18)
    assert changes[0] == 'model.backbone: no attention that is BA2M'
    assert 'custom_imports' not in stripped and not left
    assert cfg.model.backbone.attention == entry

    cfg.model.backbone.attention = [entry, CONTEXT]
    stripped, _, left = strip_config(cfg)
    assert stripped.model.backbone == dict(
        type='AttentionResNet', depth=18, attention=[CONTEXT]
    )
    assert left == ['model.backbone: AttentionResNet']
    assert stripped.custom_imports == cfg.custom_imports
    # there is nothing more to take out
    assert strip_config(stripped)[1] == []


@pytest.mark.parametrize('scope', HOSTS)
def test_an_option_that_the_host_lacks_is_named(scope):
    with pytest.raises(
        ValueError, match=r'model\.backbone: .*BA2MResNet .*dept'
    ):
        strip_config(make_config(scope, dept=18))


@needs_mmdet
def test_plugins_and_hooks_go_and_metrics_become_the_hosts():
    logger = dict(type='LoggerHook', interval=10)
    check = dict(type='NumClassCheckHook')
    anneal = dict(type='mmba2m.BA2MAnnealHook', begin=0.1)

    def make(checkpoint, metric, plugins=(), hooks=(), **default_hooks):
        cfg = make_config(backbone='ResNet', plugins=[*plugins, OTHER])
        cfg.custom_hooks = [check, *hooks]
        default_hooks['checkpoint'] = dict(type=checkpoint, by_epoch=True)
        cfg.default_hooks = dict(logger=logger, **default_hooks)
        cfg.val_evaluator = [dict(type=metric, iou_thrs=0.5), check]
        return cfg

    ours = ('mmba2m.AtomicCheckpointHook', 'mmba2m.VOCMetric')
    cfg = make(*ours, [PLUGIN], [anneal], anneal=anneal)
    expected = make('CheckpointHook', 'VOCMetric')
    expected.pop('custom_imports')
    stripped, _, left = strip_config(cfg)
    assert stripped.to_dict() == expected.to_dict() and not left
    cfg.model.backbone.plugins = [PLUGIN]
    assert 'plugins' not in strip_config(cfg)[0].model.backbone


@needs_mmdet
def test_what_else_is_ours_keeps_the_import_and_is_named():
    cfg = make_config()
    cfg.model.bbox_head = dict(type='SoftmaxRetinaHead', num_classes=3)
    cfg.custom_imports.imports = ['mmba2m', 'elsewhere']
    stripped, _, left = strip_config(cfg)
    assert left == ['model.bbox_head: SoftmaxRetinaHead']
    assert stripped.model.bbox_head.type == 'SoftmaxRetinaHead'
    assert stripped.model.backbone.type == 'ResNet'
    assert stripped.custom_imports == cfg.custom_imports
    del cfg.model.bbox_head
    assert strip_config(cfg)[0].custom_imports.imports == ['elsewhere']


@needs_mmdet
def test_heads_that_train_across_the_batch_become_the_hosts():
    cfg = make_config(backbone='ResNet')
    expected = cfg.to_dict()
    expected.pop('custom_imports')
    ours = ['BatchFormerBBoxHead', 'BatchWeightedBBoxHead']
    heads = [
        dict(type=f'mmba2m.{ours[0]}', batch_former=dict(dropout=0.1)),
        dict(type=f'mmba2m.{ours[0]}', base='Shared4Conv1FCBBoxHead'),
        dict(type=f'mmba2m.{ours[1]}', batch_weights=dict(reduction=4)),
    ]
    cfg.model.roi_head = dict(
        bbox_head=[dict(h, in_channels=4) for h in heads]
    )
    stripped, changes, left = strip_config(cfg)
    stock = [
        'Shared2FCBBoxHead',
        'Shared4Conv1FCBBoxHead',
        'Shared2FCBBoxHead',
    ]
    expected['model']['roi_head'] = dict(
        bbox_head=[dict(type=name, in_channels=4) for name in stock]
    )
    assert stripped.to_dict() == expected and not left
    assert changes[0].endswith(
        'mmba2m.BatchFormerBBoxHead → Shared2FCBBoxHead'
    )


@pytest.mark.parametrize('scope', HOSTS)
def test_a_base_is_one_of_the_configs_scope(scope):
    attention = dict(type='BA2M')
    cfg = make_config(scope, 'mmba2m.AttentionBackbone', attention=attention)
    cfg.model.backbone.base = 'ResNet'  # which each host has
    maps = dict(type='mmba2m.AttentionMaps', base='ResNet', depth=18)
    cfg.model.neck = dict(maps, in_channels=[8], attention=attention)
    with DefaultScope.overwrite_default_scope('mmengine'):  # as in a tool
        stripped, _, left = strip_config(cfg)
    stock = dict(type='ResNet', depth=18)
    assert not left
    neck = dict(stock, in_channels=[8])  # which the host's takes, too
    assert stripped.model == dict(type='Network', backbone=stock, neck=neck)
