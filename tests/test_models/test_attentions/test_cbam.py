import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_all_parameters_learn,
    assert_equal,
    count,
    count_network,
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


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(9, 4), (1, 1)])
@pytest.mark.parametrize('kernel_size', [7, 3])
def test_equals_the_equation(kernel_size, size, n, training):
    module = CBAM(8, reduction=2, kernel_size=kernel_size)
    randomize(module).train(training)
    x = unequal_samples(n, 8, *size)
    y = scale_channels(module, x)
    maps = torch.stack([y.max(1)[0], y.mean(1)], dim=1)
    maps = F.conv2d(maps, module.conv.weight, padding=kernel_size // 2)
    assert_equal(module(x), y * norm(module.norm, maps).sigmoid())


@pytest.mark.parametrize('training', [True, False])
def test_equals_timm(training):
    cbam = pytest.importorskip('timm.layers.cbam')
    module = randomize(CBAM(32, reduction=4)).train(training)
    other = cbam.CbamModule(32, rd_ratio=1 / 4, mlp_bias=True).double()
    state = module.state_dict()
    # there, the average comes first
    state['conv.weight'] = state['conv.weight'].flip(1)
    assert len(state) == len(other.state_dict())
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


def test_number_of_parameters():
    for c in (64, 256, 2048):
        assert count(CBAM(c)) == 2 * c**2 // 16 + c // 16 + c + 98 + 2
    for depth, total in ((50, 28089624), (101, 49330172)):
        assert count_network(depth, lambda i, w: CBAM(w[-1])) == total


def test_all_parameters_learn():
    module = randomize(CBAM(8, reduction=2))
    assert_all_parameters_learn(module, unequal_samples(3, 8, 5, 6))


def test_norm_is_an_option():
    assert CBAM(8, reduction=2).norm.norm.momentum == 0.01
    x = torch.randn(1, 8, 3, 3)
    for norm_cfg, added in ((None, 0), (dict(type='GN', num_groups=1), 2)):
        module = CBAM(8, reduction=2, norm_cfg=norm_cfg)
        assert torch.equal(module.train()(x), module.eval()(x))
        assert count(module) == 2 * 8 * 4 + 4 + 8 + 98 + added


def test_autocast():
    module, x = CBAM(8, reduction=2).eval(), torch.randn(2, 8, 5, 6)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), module(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('kernel_size', [0, 6, -3])
def test_kernel_size_must_be_odd(kernel_size):
    with pytest.raises(ValueError, match=f'of CBAM .* got {kernel_size}'):
        CBAM(16, kernel_size=kernel_size)


@pytest.mark.parametrize('reduction', [0, 9])
def test_reduction_out_of_range(reduction):
    with pytest.raises(ValueError, match=f'CBAM.*reduction={reduction} and 8'):
        CBAM(8, reduction=reduction)
