from itertools import product

import pytest
import torch
import torch.nn.functional as F
from attention_checks import assert_equal, randomize, unequal_samples

from mmba2m.models.attentions import SASA, relative_attention


def build(*channels, **cfg):
    return SASA(*channels, kernel_size=3, padding=1, **cfg)


def attend(layer, x):
    """Eq. 3, position by position; averages of 2×2 behind it."""
    n, _, height, width = x.shape
    k, heads = layer.window_size, layer.num_heads
    maps = F.conv2d(x, layer.qkv.weight).view(n, 3, heads, -1, height, width)
    q, keys, values = maps.unbind(1)
    keys, values = (F.pad(m, [k // 2] * 4) for m in (keys, values))
    rows = layer.row_embedding[:, None].expand(-1, k, -1, -1)
    cols = layer.col_embedding.expand(k, -1, -1, -1)
    r = torch.cat([rows, cols], dim=-1).permute(2, 3, 0, 1)  # (m, d, k, k)
    out = torch.zeros_like(q)
    for i, j in product(range(height), range(width)):
        window = (..., slice(i, i + k), slice(j, j + k))
        query = q[..., i, j, None, None]
        logits = (query * (keys[window] + r)).sum(2, keepdim=True)
        weights = logits.flatten(3).softmax(3).view_as(logits)
        out[..., i, j] = (weights * values[window]).sum((3, 4))
    out = out.flatten(1, 2)
    s = layer.stride[0]
    parts = product(range(0, height, s), range(0, width, s))
    means = [out[..., i : i + s, j : j + s].mean((2, 3)) for i, j in parts]
    out = torch.stack(means, 2).view(n, -1, -(-height // s), -(-width // s))
    return out if layer.bias is None else out + layer.bias.view(-1, 1, 1)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(1, 1), (5, 2), (7, 9), (17, 4)])
@pytest.mark.parametrize(
    'cfg', [dict(), dict(window_size=3, num_heads=2, bias=False)]
)
def test_equals_the_equation(cfg, size, stride):
    layer = randomize(build(6, 16, stride=stride, **cfg))
    x = unequal_samples(2, 6, *size)
    assert_equal(layer(x), attend(layer, x))


def test_keys_out_of_reach_get_no_weight_and_no_gradient():
    shapes = ((2, 2, 1, 4, 3), (2, 2, 1, 8, 3), (2, 2, 1, 8, 3), (5, 2, 3))
    q, k, v, embedding = tensors = [
        torch.randn(shape).double().requires_grad_() for shape in shapes
    ]
    rows = torch.zeros(2, 2, 1, 4, 1, dtype=torch.float64)
    cols = relative_attention.relative_logits(q, embedding, 2)
    out = relative_attention.attend(q, k, v, (rows, cols))
    gradients = torch.autograd.grad(out[..., 0, :].sum(), tensors)
    assert all(g.isfinite().all() for g in gradients)
    for gradient in gradients[1:3]:
        assert gradient[..., :5, :].all()
        assert not gradient[..., 5:, :].any()
