import pytest
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.checkpoints.stock_config import find_ba2m_options, strip_config

needs_mmdet = pytest.mark.skipif('mmdet' not in HOSTS, reason='no mmdet')
needs_mmpretrain = pytest.mark.skipif(
    'mmpretrain' not in HOSTS, reason='no mmpretrain'
)


def make_config(scope='mmdet', backbone='BA2MResNet', **options):
    return Config(
        dict(
            default_scope=scope,
            custom_imports=dict(
                imports=['mmba2m'], allow_failed_imports=False
            ),
            model=dict(
                type='Network',
                backbone=dict(type=backbone, depth=18, **options),
            ),
        )
    )


@pytest.mark.parametrize(
    ('scope', 'backbone', 'stock'),
    [
        pytest.param('mmdet', 'BA2MResNet', 'ResNet', marks=needs_mmdet),
        pytest.param('mmdet', 'BA2MResNeXt', 'ResNeXt', marks=needs_mmdet),
        pytest.param('mmdet', 'mmdet.BA2MResNet', 'ResNet', marks=needs_mmdet),
        pytest.param(
            'mmdet',
            'mmba2m.models.backbones.mmdet_resnet.BA2MResNet',
            'ResNet',
            marks=needs_mmdet,
        ),
        pytest.param(
            'mmpretrain', 'BA2MResNet', 'ResNet', marks=needs_mmpretrain
        ),
        pytest.param(
            'mmpretrain', 'BA2MResNeXt', 'ResNeXt', marks=needs_mmpretrain
        ),
        pytest.param(
            'mmpretrain',
            'BA2MResNet_CIFAR',
            'ResNet_CIFAR',
            marks=needs_mmpretrain,
        ),
        # a backbone of the other host keeps its scope
        pytest.param(
            'mmdet',
            'mmpretrain.BA2MResNet',
            'mmpretrain.ResNet',
            marks=needs_mmpretrain,
        ),
    ],
)
def test_backbones_become_the_hosts(scope, backbone, stock):
    cfg = make_config(
        scope,
        backbone,
        ba2m_stages=(0, 1, 1, 1),
        ba2m_cfg=dict(reduction=4),
        frozen_stages=1,
    )
    before = cfg.pretty_text
    stripped, changes, left = strip_config(cfg)
    assert stripped.to_dict() == dict(
        default_scope=scope,
        model=dict(
            type='Network',
            backbone=dict(type=stock, depth=18, frozen_stages=1),
        ),
    )
    assert changes == [
        f'model.backbone: {backbone} → {stock}',
        'custom_imports: no mmba2m',
    ]
    assert left == []
    assert cfg.pretty_text == before


@needs_mmdet
def test_plugins_inside_blocks_go_and_others_stay():
    other = dict(
        cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv2'
    )
    ours = dict(
        cfg=dict(type='mmba2m.BA2M', reduction=4), position='after_conv1'
    )
    cfg = make_config(backbone='ResNet', plugins=[ours, other])
    stripped, _, left = strip_config(cfg)
    assert stripped.model.backbone.plugins == [other]
    assert 'custom_imports' not in stripped and not left
    cfg = make_config(backbone='ResNet', plugins=[ours])
    assert 'plugins' not in strip_config(cfg)[0].model.backbone


@pytest.mark.parametrize('scope', HOSTS)
@pytest.mark.parametrize('backbone', ['BA2MResNet', 'AttentionResNet'])
@pytest.mark.parametrize('name', ['BA2M', 'mmba2m.BA2M'])
def test_attention_that_is_ba2m_goes(scope, backbone, name):
    entry = dict(type=name, position='residual', scale_by_batch=False)
    cfg = make_config(scope, backbone, attention=entry)
    assert find_ba2m_options(cfg)[-1]['scale_by_batch'] is False
    stripped, changes, left = strip_config(cfg)
    assert stripped.model.backbone == dict(type='ResNet', depth=18)
    assert changes[0] == 'model.backbone: no attention that is BA2M'
    assert 'custom_imports' not in stripped and not left
    assert cfg.model.backbone.attention == entry


@pytest.mark.parametrize('scope', HOSTS)
@pytest.mark.parametrize('backbone', ['BA2MResNet', 'AttentionResNet'])
def test_other_attention_stays(scope, backbone):
    other = dict(type='ContextBlock', ratio=0.25)
    entries = [dict(type='BA2M', position='after_conv1'), other]
    cfg = make_config(scope, backbone, attention=entries)
    stripped, _, left = strip_config(cfg)
    assert stripped.model.backbone == dict(
        type='AttentionResNet', depth=18, attention=[other]
    )
    assert left == ['model.backbone: AttentionResNet']
    assert stripped.custom_imports == cfg.custom_imports
    # there is nothing more to take out
    assert strip_config(stripped)[1] == []


@needs_mmpretrain
def test_plugins_that_the_host_lacks_stay():
    other = dict(
        cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv2'
    )
    cfg = make_config('mmpretrain', plugins=[other])
    stripped, _, left = strip_config(cfg)
    assert stripped.model.backbone == dict(
        type='AttentionResNet', depth=18, plugins=[other]
    )
    assert left == ['model.backbone: AttentionResNet']


@pytest.mark.parametrize('scope', HOSTS)
def test_an_option_that_the_host_lacks_is_named(scope):
    cfg = make_config(scope, dept=18)
    with pytest.raises(
        ValueError, match=r'model\.backbone: .*BA2MResNet .*dept'
    ):
        strip_config(cfg)


@needs_mmdet
def test_hooks_go_and_metrics_become_the_hosts():
    cfg = make_config()
    cfg.merge_from_dict(
        dict(
            custom_hooks=[
                dict(type='NumClassCheckHook'),
                dict(type='mmba2m.BA2MAnnealHook', begin=0.1),
            ],
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=10),
                checkpoint=dict(
                    type='mmba2m.AtomicCheckpointHook', by_epoch=True
                ),
                anneal=dict(type='mmba2m.BA2MAnnealHook'),
            ),
            val_evaluator=[
                dict(type='mmba2m.VOCMetric', eval_mode='area'),
                dict(type='CocoMetric'),
            ],
        )
    )
    stripped, _, left = strip_config(cfg)
    assert stripped.custom_hooks == [dict(type='NumClassCheckHook')]
    assert stripped.default_hooks == dict(
        logger=dict(type='LoggerHook', interval=10),
        checkpoint=dict(type='CheckpointHook', by_epoch=True),
    )
    assert stripped.val_evaluator == [
        dict(type='VOCMetric', eval_mode='area'),
        dict(type='CocoMetric'),
    ]
    assert 'custom_imports' not in stripped and not left


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
