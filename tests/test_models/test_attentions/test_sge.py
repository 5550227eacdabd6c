import pytest
import torch
from attention_checks import (
    assert_equal,
    check_equation,
    randomize,
    unequal_samples,
)

from mmba2m.models.attentions import SGE


def sge(module, x):
    n, _, *size = x.shape
    outs = []
    for g, part in enumerate(x.chunk(module.groups, dim=1)):  # (N, C/G, H, W)
        t = (part * part.mean((2, 3), keepdim=True)).sum(1).flatten(1)
        t = t - t.mean(1, keepdim=True)  # (N, L)
        var = t.square().sum(1, keepdim=True) / max(t.size(1) - 1, 1)
        gate = module.weight[g] * t / (var.sqrt() + 1e-5) + module.bias[g]
        outs.append(part * gate.sigmoid().view(n, 1, *size))
    return torch.cat(outs, dim=1)


@pytest.mark.parametrize('groups', [1, 2, 8])
def test_equals_the_equation(groups):
    check_equation(SGE(8, groups=groups), sge)


def test_gates_start_constant():
    module = SGE(8, groups=2).double()
    x = unequal_samples(3, 8, 5, 6)
    assert_equal(module(x), x / (1 + torch.tensor(-1.0).double().exp()))


@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
def test_gradient_of_a_constant_map(size):
    module = randomize(SGE(8, groups=2))
    x = torch.ones(2, 8, *size, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.isfinite().all()


def test_channels_last():
    module = randomize(SGE(8, groups=2))
    x = unequal_samples(3, 8, 5, 6)
    result = module(x.to(memory_format=torch.channels_last))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_equal(result, module(x))
