import pytest
import torch

from mmba2m.models.attentions.ba2m.outer_max import mean_outer_max


def literal(a, p):
    return torch.maximum(a[:, :, None], p[:, None, :]).mean((1, 2))


@pytest.mark.parametrize('offset', [0, -2, 2])  # one side wins everywhere
@pytest.mark.parametrize(
    'shape', [(2, 5, 7), (3, 1, 4), (2, 6, 1), (1, 1, 1), (4, 64, 300)]
)
@pytest.mark.parametrize(
    ('dtype', 'atol'), [(torch.float64, 1e-12), (torch.float32, 1e-6)]
)
def test_equals_the_literal_mean_with_gradients(shape, dtype, atol, offset):
    n, c, j = shape
    a = torch.rand(n, c, dtype=dtype, requires_grad=True)
    p = (torch.rand(n, j, dtype=dtype) + offset).requires_grad_()
    upstream = torch.randn(n, dtype=dtype)

    result, expected = mean_outer_max(a, p), literal(a, p)
    grads = torch.autograd.grad(result, (a, p), upstream)
    expected_grads = torch.autograd.grad(expected, (a, p), upstream)

    torch.testing.assert_close(result, expected, rtol=0, atol=atol)
    torch.testing.assert_close(grads, expected_grads, rtol=0, atol=atol)


def test_ties_share_one_gradient():
    a = torch.tensor([[0.5, 0.5, 0.2]]).double().requires_grad_()
    p = torch.tensor([[0.5, 0.2, 0.5, 0.9]]).double().requires_grad_()
    result = mean_outer_max(a, p)
    torch.testing.assert_close(result, literal(a, p))
    result.backward()
    # moving all of a and p by δ moves every maximum by δ
    total = a.grad.sum() + p.grad.sum()
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize('side', ['a', 'p'])
def test_nan_does_not_vanish(side):
    values = {'a': torch.rand(2, 4), 'p': torch.rand(2, 6)}
    values[side][0, 1] = float('nan')
    assert mean_outer_max(**values).isnan().tolist() == [True, False]


def test_form_for_export_is_the_same(monkeypatch):
    a, p = torch.rand(3, 7).double(), torch.rand(3, 11).double()
    expected = mean_outer_max(a, p)
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: True)
    torch.testing.assert_close(mean_outer_max(a, p), expected)
