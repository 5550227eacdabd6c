"""Modules and batches that the tests of BA²M share."""

import torch

from mmba2m.models.attentions.ba2m import BA2M


def randomize(module):
    """Leaves no parameter and no statistic at a special value.

    The running normaliser stays as it was: never updated.
    """
    for name, tensor in module.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif name not in ('strength', 'running_normalizer') and (
            tensor.is_floating_point()
        ):
            tensor.normal_(std=0.6)
    return module


def make_module(channels=8, reduction=2, dtype=torch.float64, **kwargs):
    return randomize(BA2M(channels, reduction, **kwargs)).to(dtype)


def make_input(n=3, c=8, h=6, w=6, dtype=torch.float64):
    """Unequal samples: each has a mean and a scale of its own."""
    x = torch.randn(n, c, h, w, dtype=dtype)
    x += torch.randn(n, c, 1, 1, dtype=dtype)
    scale = torch.linspace(0.5, 2, n, dtype=dtype)
    return x * scale.view(-1, 1, 1, 1)


def gradients(module, x, y, upstream):
    """Of x and of every parameter."""
    inputs = [x, *module.parameters()]
    return torch.autograd.grad(y, inputs, upstream)


def weights_of(module, x):
    return module.weigh(module.sample_attention(x))


def assert_near(actual, expected, atol=1e-10):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def assert_equal_with_gradients(module, x, literal, atol=1e-10):
    """Compares ``module(x)`` with ``literal(module, x)``."""
    x.requires_grad_()
    upstream = torch.randn_like(x)
    y, expected = module(x), literal(module, x)
    assert_near(y, expected, atol)
    assert_near(
        gradients(module, x, y, upstream),
        gradients(module, x, expected, upstream),
        atol,
    )
    return y
