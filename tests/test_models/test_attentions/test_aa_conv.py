from itertools import product

import pytest
import torch
import torch.nn.functional as F
from attention_checks import assert_equal, randomize, unequal_samples
from torch import nn

from mmba2m.models.attentions import AAConv2d

SMALL = dict(kappa=0.5, upsilon=0.25, num_heads=2)


def build(*channels, **cfg):
    return AAConv2d(
        *channels, **dict(dict(kernel_size=3, padding=1, **SMALL), **cfg)
    )


def pool(x, stride):
    """Means over the positions of a 3×3 window that are in the map."""
    if stride == 1:
        return x
    out = torch.zeros_like(x[..., ::2, ::2])
    for i, j in product(*map(range, out.shape[2:])):
        rows, cols = (slice(max(2 * k - 1, 0), 2 * k + 2) for k in (i, j))
        out[..., i, j] = x[..., rows, cols].mean((2, 3))
    return out


def attend(layer, x):
    """Eqs. 1 to 4, with the whole matrix."""
    x = pool(x, layer.stride[0])
    n, _, height, width = x.shape
    heads = layer.num_heads
    dk, dv = layer.key_channels, layer.value_channels
    maps = F.conv2d(x, layer.qkv.weight).flatten(2)
    q, k, v = (
        m.view(n, heads, -1, height * width)
        for m in maps.split([dk, dk, dv], dim=1)
    )
    logits = torch.einsum('nmdi,nmdj->nmij', q, k)
    if layer.map_size is not None:
        for i, j in product(range(height * width), repeat=2):
            down = j // width - i // width
            right = j % width - i % width
            r = layer.row_embedding[down + height - 1, 0]
            r = r + layer.col_embedding[right + width - 1, 0]
            logits[..., i, j] += q[..., i] @ r
    weights = (logits / (dk // heads) ** 0.5).softmax(-1)
    out = torch.einsum('nmij,nmdj->nmdi', weights, v)
    out = out.reshape(n, dv, height, width)
    return F.conv2d(out, layer.proj.weight, layer.proj.bias)


@pytest.mark.parametrize('relative', [True, False])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(1, 1), (4, 6), (5, 3)])
@pytest.mark.parametrize(
    'cfg', [dict(), dict(bias=False, padding=2, dilation=2, groups=2)]
)
def test_equals_the_equations(cfg, size, stride, relative):
    out = tuple(-(-n // stride) for n in size)
    layer = build(6, 12, stride=stride, relative=relative, map_size=out, **cfg)
    randomize(layer)
    x = unequal_samples(2, 6, *size)
    weights = (layer.conv.weight, layer.conv.bias)
    given = (cfg.get('padding', 1), cfg.get('dilation', 1))
    convolved = F.conv2d(x, *weights, stride, *given, cfg.get('groups', 1))
    expected = torch.cat([convolved, attend(layer, x)], dim=1)
    assert_equal(layer(x), expected)


def test_equals_multihead_attention():
    layer = randomize(
        build(80, 160, kappa=0.5, upsilon=0.5, num_heads=4, relative=False)
    )
    reference = nn.MultiheadAttention(80, 4, batch_first=True).double()
    with torch.no_grad():
        reference.in_proj_weight.copy_(layer.qkv.weight[:, :, 0, 0])
        reference.in_proj_bias.zero_()
        reference.out_proj.weight.copy_(layer.proj.weight[:, :, 0, 0])
        reference.out_proj.bias.copy_(layer.proj.bias)
    x = unequal_samples(2, 80, 5, 4)
    tokens = x.flatten(2).transpose(1, 2)
    expected = reference(tokens, tokens, tokens, need_weights=False)[0]
    assert_equal(
        layer(x)[:, 80:], expected.transpose(1, 2).unflatten(2, (5, 4))
    )
