from importlib import import_module

import pytest
import torch
from attention_checks import (
    assert_equal,
    check_equation,
    randomize,
    unequal_samples,
)

from mmba2m import HOSTS
from mmba2m.models.attentions import SE

LAYERS = {
    'mmdet': 'mmdet.models.layers',
    'mmpretrain': 'mmpretrain.models.utils',
}


def se(module, x):
    w1, w2 = (c.conv.weight[..., 0, 0] for c in (module.conv1, module.conv2))
    b1, b2 = module.conv1.conv.bias, module.conv2.conv.bias
    z = x.flatten(2).mean(2)
    gate = torch.sigmoid((z @ w1.T + b1).clamp(min=0) @ w2.T + b2)
    return x * gate[..., None, None]


def test_equals_the_equation():
    check_equation(SE(8, reduction=2), se)


@pytest.mark.parametrize('host', HOSTS)
def test_equals_the_layer_of_a_host(host):
    layer = import_module(LAYERS[host]).SELayer(32, ratio=4)
    module = randomize(SE(32, reduction=4))
    layer.double().load_state_dict(module.state_dict())
    x = unequal_samples(3, 32, 5, 6)
    assert_equal(module(x), layer(x))


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


def test_equals_timm():
    timm = pytest.importorskip('timm.layers')
    module = randomize(SE(32, reduction=4))
    other = timm.SqueezeExcite(32, rd_ratio=1 / 4, rd_divisor=1).double()
    states = zip(other.state_dict(), module.state_dict().values(), strict=True)
    other.load_state_dict(dict(states))
    x = unequal_samples(3, 32, 5, 6)
    assert_equal(module(x), other(x))
