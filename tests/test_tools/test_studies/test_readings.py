"""Variants of modules for studies, beside their formulas."""

import pytest
import torch

from mmba2m.models.attentions import RunningBN

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def test_one_plus_weights_that_sum_to_one(study_tools):
    torch.manual_seed(0)
    module = study_tools['readings'].OnePlusBA2M(8, reduction=2)
    x = torch.randn(5, 8, 6, 6)
    assert torch.equal(module.eval()(x), x)  # as before any training
    module.train()
    sar = module.sample_attention(x)
    factors = 1 + sar.softmax(0)
    torch.testing.assert_close(module(x), x * factors.view(-1, 1, 1, 1))
    sar = module.eval().sample_attention(x)
    factors = 1 + sar.exp() / module.running_normalizer
    torch.testing.assert_close(module(x), x * factors.view(-1, 1, 1, 1))


def test_a_map_with_a_softmax_per_position(study_tools):
    torch.manual_seed(0)
    module = study_tools['readings'].MapBA2M(8, reduction=2)
    x = torch.randn(5, 8, 6, 7)
    assert torch.equal(module.eval()(x), x)
    module.train()
    a = module.channel(x).sigmoid()[:, :, 0, 0]
    local = module.local_spatial(x)
    half = module.global_spatial(x)
    y, running = module(x), module.running_normalizer
    for i, j in ((0, 0), (5, 6), (2, 3)):
        p = torch.maximum(local[:, 0, i, j], half[:, 0, i // 2, j // 2])
        sar = torch.maximum(a, p.sigmoid()[:, None]).mean(1)
        weights = 5 * sar.softmax(0)
        expected = x[:, :, i, j] * weights[:, None]
        torch.testing.assert_close(y[:, :, i, j], expected)
    sars = torch.maximum(
        a[:, :, None, None],
        torch.maximum(
            local,
            half.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :7],
        ).sigmoid(),
    ).mean(1)
    torch.testing.assert_close(running, sars.exp().mean()[None])
    # the mean of the map is the SAR
    torch.testing.assert_close(sars.mean((1, 2)), module.sample_attention(x))


def test_gates_of_se_around_one(study_tools):
    torch.manual_seed(0)
    module = study_tools['readings'].DoubledSE(32, reduction=4)
    x = torch.randn(3, 32, 5, 6) * torch.tensor([1.0, 2, 3]).view(-1, 1, 1, 1)
    first, second = module.conv1.conv, module.conv2.conv
    hidden = (x.mean((2, 3)) @ first.weight[..., 0, 0].T + first.bias).relu()
    logits = hidden @ second.weight[..., 0, 0].T + second.bias
    gates = 2 * logits.sigmoid()
    torch.testing.assert_close(module(x), x * gates[:, :, None, None])
    assert 0.9 < gates.mean() < 1.1 and gates.std() > 0.01
    module = study_tools['readings'].DoubledSE(32, zero_init=True)
    assert torch.equal(module(x), x)
    module.init_weights()  # as a host does
    assert torch.equal(module(x), x)
    module(x).square().sum().backward()
    assert module.conv2.conv.bias.grad.abs().min() > 0


def test_renormalised_by_running_statistics_with_a_gradient(study_tools):
    torch.manual_seed(0)
    renorm = study_tools['readings'].BatchRenorm(3)
    running = RunningBN(3)
    for _ in range(4):  # statistics that move
        x = torch.randn(4, 3, 5, 5) * 2 + 1
        torch.testing.assert_close(renorm(x), running(x))
    x.requires_grad_()
    running(x)
    (grad,) = torch.autograd.grad(renorm(x).pow(3).sum(), x)
    # as in batch norm, a shift of a channel changes nothing
    zero = grad.new_zeros(3)
    torch.testing.assert_close(grad.sum((0, 2, 3)), zero, atol=1e-4, rtol=0)
    torch.testing.assert_close(renorm.eval()(x), running.eval()(x))
