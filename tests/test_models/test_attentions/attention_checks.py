"""What the tests of attention modules share."""

from itertools import product

import torch
from mmengine.model import constant_init, kaiming_init
from torch import nn

KEPT = ('strength', 'running_normalizer')  # of BA²M: never updated


def randomize(module):
    """Leaves no zero bias and no norm that does nothing; float64."""
    module.double()
    for name, tensor in module.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point() and name not in KEPT:
            tensor.normal_(std=0.6)
    return module


def initialise_as_hosts_do(module):
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            kaiming_init(layer, bias=1)  # but for the bias
        elif hasattr(layer, 'running_mean'):
            constant_init(layer, 1, bias=1)


def unequal_samples(*shape, dtype=torch.float64):
    """Each has a mean and a scale of its own."""
    x = torch.randn(*shape, dtype=dtype)
    x += torch.randn(*shape[:2], 1, 1, dtype=dtype)
    scale = torch.linspace(0.5, 2, shape[0], dtype=dtype)
    return x * scale.view(-1, 1, 1, 1)


def norm(layer, x):
    """Batch norm of a BranchNorm, from its parameters."""
    layer = layer.norm
    if isinstance(layer, nn.Identity):
        return x
    mean, var = layer.running_mean, layer.running_var
    if layer.training and x.numel() > x.size(1):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    scale = layer.weight / (var + 1e-5).sqrt()
    shift = layer.bias - mean * scale
    return x * scale[:, None, None] + shift[:, None, None]


def assert_equal(result, expected, atol=1e-10):
    torch.testing.assert_close(result, expected, rtol=0, atol=atol)


def check_equation(
    module,
    literal,
    map_size=None,
    make=lambda n, size: unequal_samples(n, 8, *size),
):
    """Compares a module with its literal form, ``literal(module, x)``.

    In both modes, for one image and several, for large maps and small.
    """
    randomize(module)
    sizes = ((8, 16), (9, 5), (1, 2), (1, 1)) if not map_size else [map_size]
    for size, n, training in product(sizes, (1, 3), (True, False)):
        module.train(training)
        x = make(n, size)
        assert_equal(module(x), literal(module, x))
