"""Modules and batches that the tests of BA²M share."""

import torch
from attention_checks import assert_equal, randomize, unequal_samples

from mmba2m.models.attentions.ba2m import BA2M


def make_module(channels=8, reduction=2, dtype=torch.float64, **kwargs):
    return randomize(BA2M(channels, reduction, **kwargs)).to(dtype)


def make_input(n=3, c=8, h=6, w=6, dtype=torch.float64):
    return unequal_samples(n, c, h, w, dtype=dtype)


def gradients(module, x, y, upstream):
    """Of x and of every parameter."""
    inputs = [x, *module.parameters()]
    return torch.autograd.grad(y, inputs, upstream)


def weights_of(module, x):
    return module.weigh(module.sample_attention(x))


def assert_equal_with_gradients(module, x, literal, atol=1e-10):
    """Compares ``module(x)`` with ``literal(module, x)``."""
    x.requires_grad_()
    upstream = torch.randn_like(x)
    y, expected = module(x), literal(module, x)
    assert_equal(y, expected, atol)
    assert_equal(
        gradients(module, x, y, upstream),
        gradients(module, x, expected, upstream),
        atol,
    )
    return y
