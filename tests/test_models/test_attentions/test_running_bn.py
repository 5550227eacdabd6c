import pytest
import torch
from mmengine.utils import digit_version
from torch import nn

from mmba2m.models.attentions import RunningBN


def test_statistics_are_those_of_the_mixture():
    """Recomputed from all values seen, each batch with its weight."""
    norm = RunningBN(3, momentum=0.4).double()
    batches = [torch.randn(n, 3, 2, 5).double() * n + n for n in (2, 1, 3, 2)]
    shares = torch.zeros(0).double()
    for n, batch in enumerate(batches, start=1):
        norm(batch)
        weight = max(1 / n, 0.4)
        shares = torch.cat([shares * (1 - weight), torch.tensor([weight])])
        values = [b.transpose(0, 1).flatten(1) for b in batches[:n]]
        mean = sum(s * v.mean(1) for s, v in zip(shares, values, strict=True))
        square = sum(
            s * v.square().mean(1) for s, v in zip(shares, values, strict=True)
        )
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, square - mean**2)


def test_they_normalise_in_training_as_in_inference():
    norm = RunningBN(4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    y = norm(x)
    expected = (x - norm.running_mean.view(-1, 1, 1)) / (
        norm.running_var.view(-1, 1, 1) + 1e-5
    ).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(y, expected)
    # no gradient through the statistics: an affine map of each value
    (grad,) = torch.autograd.grad(y.sum(), x)
    scale = norm.weight / (norm.running_var + 1e-5).sqrt()
    torch.testing.assert_close(grad, scale.view(-1, 1, 1).expand_as(x))
    torch.testing.assert_close(norm.eval()(x), y)


def test_single_values_are_told_apart():
    """Pooled features of one image each: the batches differ, not the batch."""
    norm = RunningBN(2)
    values = torch.randn(200, 2) * 3 + 5
    outs = torch.cat([norm(v.view(1, 2, 1, 1)) for v in values])[100:]
    assert outs.mean((0, 2, 3)).abs().max() < 0.4
    assert (outs.std((0, 2, 3)) - 1).abs().max() < 0.3


def test_weights_are_those_of_batch_norm():
    one, two = nn.BatchNorm2d(3), RunningBN(3)
    for _ in range(3):
        one(torch.randn(4, 3, 2, 2) + 1)
    two.load_state_dict(one.state_dict())
    one.load_state_dict(two.state_dict())
    x = torch.randn(2, 3, 2, 2)
    assert torch.equal(one.eval()(x), two.eval()(x))


def test_two_passes_before_a_backward_pass_and_an_empty_batch():
    norm = RunningBN(2)
    x = torch.randn(2, 2, 3, 3, requires_grad=True)
    (norm(x) + norm(2 * x)).sum().backward()
    assert x.grad.isfinite().all()
    before = norm.running_mean.clone()
    assert norm(torch.empty(0, 2, 3, 3)).shape == (0, 2, 3, 3)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_statistics_keep_their_precision(dtype):
    if dtype == torch.float16 and digit_version(torch.__version__)[:2] < (
        2,
        2,
    ):
        pytest.skip('on the CPU, from torch 2.2 on')
    norm = RunningBN(2)
    x = (torch.randn(64, 2, 8, 8) * 0.1 + 4).to(dtype)
    with torch.autocast('cpu', torch.bfloat16):
        out = norm(x)
    assert out.isfinite().all()
    expected = x.float().var((0, 2, 3), correction=0)
    torch.testing.assert_close(norm.running_var, expected)
