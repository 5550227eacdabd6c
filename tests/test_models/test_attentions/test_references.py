"""Modules against the layers of others, with the same weights."""

from importlib import import_module

import pytest
import torch
from attention_checks import assert_equal, randomize, unequal_samples

from mmba2m import HOSTS
from mmba2m.models.attentions import CBAM, ECA, GC, SE


def timm(name, *args, **kwargs):
    return getattr(pytest.importorskip('timm.layers'), name)(*args, **kwargs)


def host_layer(name):
    pytest.importorskip(name.partition('.')[0])
    return import_module(name).SELayer(32, ratio=4)


def timm_cbam():
    pytest.importorskip('timm.layers')
    module = import_module('timm.layers.cbam')
    return module.CbamModule(32, rd_ratio=1 / 4, mlp_bias=True)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    ('build', 'build_other'),
    [
        (
            lambda: SE(32, reduction=4),
            lambda: timm('SqueezeExcite', 32, rd_ratio=1 / 4, rd_divisor=1),
        ),
        (lambda: SE(32, 4), lambda: host_layer('mmdet.models.layers')),
        (lambda: SE(32, 4), lambda: host_layer('mmpretrain.models.utils')),
        (lambda: CBAM(32, reduction=4), timm_cbam),
        (lambda: ECA(32), lambda: timm('EcaModule', 32)),
        (lambda: ECA(32, 3), lambda: timm('EcaModule', None, 3)),
        (
            lambda: GC(32),
            lambda: import_module('mmcv.cnn').ContextBlock(32, ratio=1 / 16),
        ),
    ],
)
def test_equals_the_layer_of_others(build, build_other, training):
    module, other = randomize(build()), build_other().double()
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
