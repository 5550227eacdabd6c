import pytest
import torch
from attention_checks import (
    assert_all_parameters_learn,
    assert_equal,
    count,
    count_network,
    randomize,
    unequal_samples,
)
from torch import nn

from mmba2m.models.attentions import SGE


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 4), (1, 2), (1, 1)])
@pytest.mark.parametrize('groups', [1, 2, 8])
def test_equals_the_equation(groups, size, n, training):
    module = randomize(SGE(8, groups=groups)).train(training)
    x = unequal_samples(n, 8, *size)
    expected = []
    for g, part in enumerate(x.chunk(groups, dim=1)):  # (N, C/G, H, W)
        t = (part * part.mean((2, 3), keepdim=True)).sum(1).flatten(1)
        t = t - t.mean(1, keepdim=True)  # (N, L)
        var = t.square().sum(1, keepdim=True) / max(t.size(1) - 1, 1)
        gate = module.weight[g] * t / (var.sqrt() + 1e-5) + module.bias[g]
        expected.append(part * gate.sigmoid().view(n, 1, *size))
    expected = torch.cat(expected, dim=1)
    assert_equal(module(x), expected)


def test_gates_start_constant():
    module = SGE(8, groups=2).double()
    x = unequal_samples(3, 8, 5, 6)
    assert_equal(module(x), x / (1 + torch.tensor(-1.0).double().exp()))


def test_number_of_parameters():
    assert count(SGE(64)) == count(SGE(256)) == 2 * 64
    assert count(SGE(8, groups=4)) == 2 * 4
    for depth, total in ((50, 25559080), (101, 44553384)):
        assert count_network(depth, lambda i, w: SGE(w[-1])) == total


def test_all_parameters_learn():
    module = randomize(SGE(8, groups=2))
    assert_all_parameters_learn(module, unequal_samples(3, 8, 5, 6))


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


def test_autocast():
    module, x = SGE(8, groups=2).eval(), torch.randn(2, 8, 5, 6)
    nn.init.normal_(module.weight)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), module(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize('groups', [0, 3, 64])
def test_groups_must_divide_the_channels(groups):
    with pytest.raises(ValueError, match=f'groups={groups} of SGE .* 8 chan'):
        SGE(8, groups=groups)
