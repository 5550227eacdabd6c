import pytest
import torch
from torch import nn

from mmba2m.models.attentions.ba2m import shared_projection as module
from mmba2m.models.attentions.ba2m.shared_projection import shared_projection


def make_layers(channels=6, dtype=torch.float64):
    layers = (
        nn.Conv2d(channels, 3, 1),
        nn.Conv2d(channels, 5, 1, stride=2),
        nn.Conv2d(channels, 2, 3, stride=2, padding=1),
    )
    return [layer.to(dtype) for layer in layers]


def unequal_samples(size, dtype=torch.float64):
    x = torch.randn(3, 6, *size, dtype=dtype)
    return (
        x * torch.linspace(0.5, 2, 3, dtype=dtype).view(-1, 1, 1, 1)
    ).relu()


def literal(x, layers):
    return x.mean((2, 3), keepdim=True), *(layer(x) for layer in layers)


@pytest.fixture
def calls(monkeypatch):
    """Counts uses of the shared gradient."""
    made = []
    apply = module._SharedProjection.apply
    monkeypatch.setattr(
        module._SharedProjection,
        'apply',
        lambda *args: made.append(1) or apply(*args),
    )
    return made


@pytest.mark.parametrize(
    'size', [(10, 10), (11, 14), (12, 9), (13, 15), (1, 120), (101, 1), (2, 2)]
)
@pytest.mark.parametrize(
    ('dtype', 'tol'), [(torch.float64, 1e-10), (torch.float32, 1e-5)]
)
def test_values_and_gradients_are_those_of_the_layers(size, dtype, tol, calls):
    layers = make_layers(dtype=dtype)
    x = unequal_samples(size, dtype).requires_grad_()
    inputs = [x, *(p for layer in layers for p in layer.parameters())]

    outs, expected = shared_projection(x, *layers), literal(x, layers)
    upstream = [torch.randn_like(out) for out in expected]
    grads = torch.autograd.grad(outs, inputs, upstream)
    expected_grads = torch.autograd.grad(expected, inputs, upstream)

    for actual, wanted in zip(
        (*outs, *grads), (*expected, *expected_grads), strict=True
    ):
        scale = max(wanted.abs().max().item(), 1)
        torch.testing.assert_close(actual, wanted, rtol=0, atol=tol * scale)
    assert len(calls) == (size[0] * size[1] >= module.MIN_POSITIONS)


def test_a_map_without_gradient_leaves_those_of_the_weights():
    layers = make_layers()
    x = unequal_samples((10, 11))
    weights = [p for layer in layers for p in layer.parameters()]
    grads = [
        torch.autograd.grad(sum(out.square().sum() for out in outs), weights)
        for outs in (shared_projection(x, *layers), literal(x, layers))
    ]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-9)


def test_without_gradients_the_values_are_the_same(calls):
    layers = make_layers()
    x = unequal_samples((11, 10))
    with torch.no_grad():
        torch.testing.assert_close(
            shared_projection(x, *layers), literal(x, layers)
        )
    assert not calls


def test_other_layouts_and_autocast_take_the_layers(calls):
    layers = make_layers(dtype=torch.float32)
    x = unequal_samples((10, 11), torch.float32).requires_grad_()
    rows = x.contiguous(memory_format=torch.channels_last)
    for out, expected in zip(
        shared_projection(rows, *layers), literal(rows, layers), strict=True
    ):
        assert torch.equal(out, expected)
    with torch.autocast('cpu', torch.bfloat16):
        outs = shared_projection(x, *layers)
    assert [out.dtype for out in outs[1:]] == [torch.bfloat16] * 3
    assert not calls


def test_what_follows_may_work_in_place():
    layers = make_layers()
    x = unequal_samples((10, 10)).requires_grad_()
    outs = [out.relu_() for out in shared_projection(x, *layers)]
    expected = [out.relu() for out in literal(x, layers)]
    grads = [
        torch.autograd.grad(sum(o.square().sum() for o in each), x)[0]
        for each in (outs, expected)
    ]
    torch.testing.assert_close(*grads)
