import pytest
import torch
from attention_checks import (
    assert_all_parameters_learn,
    assert_equal,
    count,
    count_network,
    norm,
    randomize,
    unequal_samples,
)
from torch import nn

from mmba2m.models.attentions import SRM


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 4), (1, 2), (1, 1)])
def test_equals_the_equation(size, n, training):
    module = randomize(SRM(8)).train(training)
    x = unequal_samples(n, 8, *size)
    flat = x.flatten(2)
    mean = flat.mean(2)
    square = (flat - mean[..., None]).square().sum(2)
    std = (square / max(flat.size(2) - 1, 1) + 1e-5).sqrt()
    z = mean * module.cfc[:, 0] + std * module.cfc[:, 1]
    gate = norm(module.norm, z[..., None, None]).sigmoid()
    assert_equal(module(x), x * gate)


@pytest.mark.parametrize('training', [True, False])
def test_gates_start_as_one_half(training):
    module = SRM(8).double().train(training)
    x = unequal_samples(3, 8, 5, 6)
    assert torch.equal(module(x), x / 2)


def test_number_of_parameters():
    for c in (64, 256, 2048):
        assert count(SRM(c)) == 4 * c
    for depth, total in ((50, 25617448), (101, 44679208)):
        assert count_network(depth, lambda i, w: SRM(w[-1])) == total


@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
def test_all_parameters_learn(size):
    module = randomize(SRM(8))
    assert_all_parameters_learn(module, unequal_samples(3, 8, *size))


@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
def test_gradient_of_a_constant_map(size):
    module = randomize(SRM(8))
    x = torch.ones(2, 8, *size, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.isfinite().all()


def test_norm_is_an_option():
    module = SRM(8, norm_cfg=dict(type='GN', num_groups=2))
    nn.init.normal_(module.cfc)
    x = torch.randn(1, 8, 3, 3)
    assert torch.equal(module.train()(x), module.eval()(x))


def test_autocast():
    module, x = SRM(8).eval(), torch.randn(2, 8, 5, 6)
    nn.init.normal_(module.cfc)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), module(x), rtol=0.02, atol=0.02)


def test_variance_beyond_half_precision():
    x = torch.tensor([-1000.0, 1000.0]).view(1, 1, 1, 2).half()
    torch.testing.assert_close(
        SRM.pool_style(x), torch.tensor([[[0, 2e6**0.5]]])
    )
