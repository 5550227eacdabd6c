"""The smallest network of each family of backbones."""

import copy

from mmengine.model import kaiming_init
from mmengine.registry import MODELS, DefaultScope

from mmba2m import HOSTS

_NARROW = dict(base_channels=16, norm_eval=False)
_CSP = dict(deepen_factor=0.33, widen_factor=0.25)
_SWIN = dict(embed_dims=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8])
_HORNET = dict(base_dim=16, depths=[1] * 4, orders=[2, 3, 4, 5])
_TRIDENT = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
_TRIDENT.update(out_indices=(2,), num_branch=3, test_branch_idx=1)
_TIMM_SWIN = dict(embed_dim=24, depths=[1] * 4, num_heads=[1, 2, 4, 8])
_TIMM_SWIN.update(img_size=64, window_size=2)

#: Name of a backbone, and its arguments
NETWORKS = [
    ('mmdet.ResNet', dict(_NARROW, depth=18, stem_channels=16)),
    ('mmdet.ResNeXt', dict(_NARROW, depth=50, groups=4, base_width=4)),
    ('mmdet.ResNetV1d', dict(_NARROW, depth=50)),
    ('mmdet.Res2Net', dict(_NARROW, depth=50, scales=4, base_width=4)),
    ('mmdet.ResNeSt', dict(_NARROW, depth=50)),
    ('mmdet.RegNet', dict(arch='regnetx_400mf', norm_eval=False)),
    (
        'mmdet.TridentResNet',
        dict(_NARROW, depth=50, trident_dilations=(1, 2, 3), **_TRIDENT),
    ),
    ('mmdet.DetectoRS_ResNet', dict(_NARROW, depth=50)),
    ('mmdet.CSPDarknet', _CSP),
    ('mmdet.CSPNeXt', _CSP),
    ('mmdet.SwinTransformer', _SWIN),
    ('mmdet.EfficientNet', dict(arch='b0', out_indices=(3, 5))),
    ('mmdet.MobileNetV2', dict(widen_factor=0.5)),
    ('mmpretrain.SEResNet', dict(_NARROW, depth=50)),
    ('mmpretrain.RegNet', dict(arch='regnetx_400mf')),
    ('mmpretrain.ConvNeXt', dict(arch='atto')),
    (
        'mmpretrain.HorNet',
        dict(arch=dict(_HORNET, dw_cfg=[dict(type='DW', kernel_size=7)] * 4)),
    ),
    (
        'mmpretrain.SwinTransformer',
        dict(arch=_SWIN, window_size=2, img_size=64),
    ),
    ('mmpretrain.EfficientNet', dict(arch='es')),
    ('mmpretrain.MobileNetV2', dict(widen_factor=0.5)),
    (
        'mmpretrain.DenseNet',
        dict(arch=dict(growth_rate=8, depths=[2] * 4, init_channels=16)),
    ),
    ('mmpretrain.ShuffleNetV2', dict(widen_factor=0.5)),
    ('mmpretrain.PreResNet_CIFAR', dict(depths=(1, 1), out_indices=(0, 1))),
    ('mmpretrain.TIMMBackbone', dict(model_name='regnetx_002')),
    (
        'mmpretrain.TIMMBackbone',
        dict(model_name='resnet18', features_only=True, out_indices=(1, 3)),
    ),
    (
        'mmpretrain.TIMMBackbone',
        dict(_TIMM_SWIN, model_name='swin_tiny_patch4_window7_224'),
    ),
]
NETWORKS = [case for case in NETWORKS if case[0].split('.')[0] in HOSTS]


def build(base, attention=None, **kwargs):
    """Builds a backbone, with ``attention`` if there is some."""
    cfg = dict(copy.deepcopy(kwargs), type=base)
    if attention is not None:
        cfg.update(type='mmba2m.AttentionBackbone', base=base)
        cfg.update(attention=attention)
    with DefaultScope.overwrite_default_scope(base.split('.')[0]):
        network = MODELS.build(cfg)
        network.init_weights()
    return fill_trident(network)


def fill_trident(network):
    """Initialises what its host never does."""
    for module in network.modules():
        if type(module).__name__ == 'TridentConv':
            kaiming_init(module)
    return network
