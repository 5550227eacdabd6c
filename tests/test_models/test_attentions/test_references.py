"""Modules against the layers of others, with the same weights."""

from importlib import import_module

import pytest
import torch
from attention_checks import assert_equal, randomize, unequal_samples

from mmba2m import HOSTS
from mmba2m.models.attentions import CBAM, ECA, GC, SE

TIMM_SE = dict(rd_ratio=1 / 4, rd_divisor=1)
TIMM_CBAM = dict(rd_ratio=1 / 4, mlp_bias=True)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    ('cls', 'args', 'name', 'cfg'),
    [
        (SE, (4,), 'timm.layers.SqueezeExcite', TIMM_SE),
        (SE, (4,), 'mmdet.models.layers.SELayer', dict(ratio=4)),
        (SE, (4,), 'mmpretrain.models.utils.SELayer', dict(ratio=4)),
        (CBAM, (4,), 'timm.layers.cbam.CbamModule', TIMM_CBAM),
        (ECA, (), 'timm.layers.EcaModule', dict()),
        (ECA, (5,), 'timm.layers.EcaModule', dict(kernel_size=5)),
        (GC, (), 'mmcv.cnn.ContextBlock', dict(ratio=1 / 16)),
    ],
)
def test_equals_the_layer_of_others(cls, args, name, cfg, training):
    pytest.importorskip(name.partition('.')[0])
    package, _, name = name.rpartition('.')
    args_of_other = () if 'kernel_size' in cfg else (32,)
    other = getattr(import_module(package), name)(*args_of_other, **cfg)
    module, other = randomize(cls(32, *args)), other.double()
    state = module.state_dict()
    if isinstance(module, CBAM):  # there, the average comes first
        state['conv.weight'] = state['conv.weight'].flip(1)
    states = zip(other.state_dict(), state.values(), strict=True)
    other.load_state_dict(dict(states))
    x = unequal_samples(3, 32, 9, 6)
    assert_equal(module.train(training)(x), other.train(training)(x))


@pytest.mark.skipif('mmpretrain' not in HOSTS, reason='is of mmpretrain')
def test_loads_an_se_resnet():
    models = import_module('mmpretrain.registry').MODELS
    cfg = dict(depth=50, num_stages=1, strides=(1,), dilations=(1,))
    cfg['out_indices'] = (0,)
    other = models.build(dict(type='SEResNet', **cfg))
    network = models.build(
        dict(type='AttentionResNet', attention=dict(type='SE'), **cfg)
    )
    network.load_state_dict(other.state_dict())
    x = torch.randn(2, 3, 33, 32)
    assert torch.equal(network(x)[0], other(x)[0])
