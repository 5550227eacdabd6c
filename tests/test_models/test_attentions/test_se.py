from importlib import import_module

import pytest
import torch
from attention_checks import (
    assert_all_parameters_learn,
    assert_equal,
    count,
    count_network,
    randomize,
    unequal_samples,
)

from mmba2m import HOSTS
from mmba2m.models.attentions import SE

LAYERS = {
    'mmdet': 'mmdet.models.layers',
    'mmpretrain': 'mmpretrain.models.utils',
}


def excite(module, z):
    """The gate of pooled features (N, C)."""
    w1, w2 = (c.conv.weight[..., 0, 0] for c in (module.conv1, module.conv2))
    b1, b2 = module.conv1.conv.bias, module.conv2.conv.bias
    return torch.sigmoid((z @ w1.T + b1).clamp(min=0) @ w2.T + b2)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 4), (1, 1)])
def test_equals_the_equation(size, n, training):
    module = randomize(SE(8, reduction=2)).train(training)
    x = unequal_samples(n, 8, *size)
    gate = excite(module, x.flatten(2).mean(2))
    assert_equal(module(x), x * gate[..., None, None])


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


def test_number_of_parameters():
    for c in (64, 256, 2048):
        assert count(SE(c)) == 2 * c**2 // 16 + c // 16 + c
    assert count(SE(64, reduction=8)) == 2 * 64 * 8 + 8 + 64
    for depth, total in ((50, 28088024), (101, 49326872)):
        assert count_network(depth, lambda i, w: SE(w[-1])) == total


def test_all_parameters_learn():
    module = randomize(SE(8, reduction=2))
    assert_all_parameters_learn(module, unequal_samples(3, 8, 5, 6))


def test_autocast():
    module, x = SE(8, reduction=2), torch.randn(2, 8, 5, 6)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), module(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('reduction', [0, -1, 9])
def test_reduction_out_of_range(reduction):
    with pytest.raises(ValueError, match=f'SE .*reduction={reduction} and 8'):
        SE(8, reduction=reduction)
