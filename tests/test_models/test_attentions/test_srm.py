import pytest
import torch
from attention_checks import (
    check_equation,
    check_norm_is_an_option,
    norm,
    randomize,
    unequal_samples,
)

from mmba2m.models.attentions import SRM


def srm(module, x):
    flat = x.flatten(2)
    mean = flat.mean(2)
    square = (flat - mean[..., None]).square().sum(2)
    std = (square / max(flat.size(2) - 1, 1) + 1e-5).sqrt()
    z = mean * module.cfc[:, 0] + std * module.cfc[:, 1]
    return x * norm(module.norm, z[..., None, None]).sigmoid()


def test_equals_the_equation():
    check_equation(SRM(8), srm)


@pytest.mark.parametrize('training', [True, False])
def test_gates_start_as_one_half(training):
    module = SRM(8).double().train(training)
    x = unequal_samples(3, 8, 5, 6)
    assert torch.equal(module(x), x / 2)


@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
def test_gradient_of_a_constant_map(size):
    module = randomize(SRM(8))
    x = torch.ones(2, 8, *size, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.isfinite().all()


def test_norm_is_an_option():
    check_norm_is_an_option(SRM)


def test_variance_beyond_half_precision():
    x = torch.tensor([-1000.0, 1000.0]).view(1, 1, 1, 2).half()
    torch.testing.assert_close(
        SRM.pool_style(x), torch.tensor([[[0, 2e6**0.5]]])
    )
