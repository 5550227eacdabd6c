"""What the tests of attention modules share."""

from itertools import product

import torch


def randomize(module):
    """Leaves no zero bias and no norm that does nothing; float64."""
    module.double()
    for name, tensor in module.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.6)
    return module


def unequal_samples(*shape):
    scale = torch.linspace(0.5, 2, shape[0], dtype=torch.float64)
    x = torch.randn(*shape, dtype=torch.float64)
    x += torch.randn(*shape[:2], 1, 1, dtype=torch.float64)
    return x * scale.view(-1, 1, 1, 1)


def norm(layer, x):
    """Batch norm of a BranchNorm, from its parameters."""
    layer = layer.norm
    mean, var = layer.running_mean, layer.running_var
    if layer.training and x.numel() > x.size(1):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    scale = layer.weight / (var + 1e-5).sqrt()
    return (
        x * scale[:, None, None] + (layer.bias - mean * scale)[:, None, None]
    )


def assert_equal(result, expected):
    assert result.dtype == expected.dtype
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-10)


def check_equation(
    module,
    literal,
    sizes=((7, 4), (1, 2), (1, 1)),
    make=lambda n, size: unequal_samples(n, 8, *size),
):
    """Compares a module with its literal form, ``literal(module, x)``.

    In both modes, for one image and several, for large maps and small.
    """
    randomize(module)
    for size, n, training in product(sizes, (1, 3), (True, False)):
        module.train(training)
        x = make(n, size)
        assert_equal(module(x), literal(module, x))


def check_norm_is_an_option(cls, **cfg):
    """Without batch, a single image trains as it is tested."""
    x = unequal_samples(1, 8, 3, 3)
    for norm_cfg in (None, dict(type='GN', num_groups=2)):
        module = randomize(cls(8, norm_cfg=norm_cfg, **cfg))
        assert torch.equal(module.train()(x), module.eval()(x))
