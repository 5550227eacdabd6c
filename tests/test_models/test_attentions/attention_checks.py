"""What the tests of attention modules share."""

import torch

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
PLAIN = {18: 11689512, 34: 21797672, 50: 25557032, 101: 44549160}
"""Parameters of the networks without attention."""


def count(module):
    return sum(p.numel() for p in module.parameters())


def count_network(depth, build):
    """Counts ResNet's parameters with a module in each block.

    ``build`` gets the stage, from 0, and the widths of the convolutions.
    """
    total = PLAIN[depth]
    for i, number in enumerate(BLOCKS[depth]):
        w = 64 * 2**i
        with torch.device('meta'):
            module = build(i, [w, w] if depth < 50 else [w, w, 4 * w])
        total += number * count(module)
    return total


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


def assert_all_parameters_learn(module, x):
    # in training, the gradient of a bias in front of a batch norm is 0
    module.eval()
    module.zero_grad()
    module(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
