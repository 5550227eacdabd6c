import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_equal,
    check_equation,
    check_norm_is_an_option,
    norm,
    randomize,
    unequal_samples,
)
from mmengine.model import constant_init, kaiming_init

from mmba2m.models.attentions import CBAM


def scale_channels(module, x):
    fc1, _, fc2 = module.mlp

    def mlp(z):
        z = z @ fc1.weight[..., 0, 0].T + fc1.bias
        return z.clamp(min=0) @ fc2.weight[..., 0, 0].T + fc2.bias

    flat = x.flatten(2)
    gate = torch.sigmoid(mlp(flat.mean(2)) + mlp(flat.max(2)[0]))
    return x * gate[..., None, None]


def cbam(module, x):
    y = scale_channels(module, x)
    maps = torch.stack([y.max(1)[0], y.mean(1)], dim=1)
    pad = module.conv.kernel_size[0] // 2
    maps = F.conv2d(maps, module.conv.weight, padding=pad)
    return y * norm(module.norm, maps).sigmoid()


@pytest.mark.parametrize('kernel_size', [7, 3])
def test_equals_the_equation(kernel_size):
    module = CBAM(8, reduction=2, kernel_size=kernel_size)
    check_equation(module, cbam, sizes=((9, 4), (1, 1)))


@pytest.mark.parametrize('training', [True, False])
def test_equals_timm(training):
    cbam = pytest.importorskip('timm.layers.cbam')
    module = randomize(CBAM(32, reduction=4)).train(training)
    other = cbam.CbamModule(32, rd_ratio=1 / 4, mlp_bias=True).double()
    state = module.state_dict()
    # there, the average comes first
    state['conv.weight'] = state['conv.weight'].flip(1)
    states = zip(other.state_dict(), state.values(), strict=True)
    other.load_state_dict(dict(states))
    x = unequal_samples(3, 32, 9, 6)
    assert_equal(module(x), other.train(training)(x))


def test_second_gate_starts_as_one_half():
    module = CBAM(8, reduction=2).double()
    x = unequal_samples(3, 8, 5, 6)
    for _ in range(2):
        assert_equal(module(x), scale_channels(module, x) / 2)
        for layer in (*module.mlp[::2], module.conv):  # as a backbone does
            kaiming_init(layer)
        constant_init(module.norm.norm, 1)
        assert not torch.allclose(module(x), scale_channels(module, x) / 2)
        module.init_weights()


def test_mlp_starts_small():
    module = CBAM(64, reduction=4)
    for _ in range(2):
        for fc in (module.mlp[0], module.mlp[2]):
            bound = fc.in_channels**-0.5
            assert 0.9 * bound < fc.weight.abs().max() <= bound
            assert not fc.bias.any()
            kaiming_init(fc, bias=1)  # as a backbone does
        module.init_weights()


def test_norm_is_an_option():
    assert CBAM(8, reduction=2).norm.norm.momentum == 0.01
    check_norm_is_an_option(CBAM, reduction=2)
