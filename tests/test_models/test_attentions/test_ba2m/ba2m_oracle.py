"""BA²M again, literally and slowly: what the fast module is tested against.

Only parameters are taken from the module under test; strides, paddings and
the arithmetic are written down from the paper's equations. Norms are batch
norm or absent.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from attention_checks import norm


def conv(layer, x, stride=1, padding=0):
    return F.conv2d(x, layer.weight, layer.bias, stride, padding)


def channel_attention(layers, x):
    """Eq. 6."""
    x = x.mean((2, 3), keepdim=True)
    x = norm(layers[2], conv(layers[1], x)).clamp(min=0)
    return norm(layers[5], conv(layers[4], x))


def local_attention(layers, x):
    """Eq. 7."""
    x = norm(layers[1], conv(layers[0], x)).clamp(min=0)
    x = norm(layers[4], conv(layers[3], x, padding=1)).clamp(min=0)
    x = norm(layers[7], conv(layers[6], x, padding=1)).clamp(min=0)
    return norm(layers[10], conv(layers[9], x))


def average_pool(maps, size):
    """Adaptive pooling: bin i of o over n is ⌊i·n/o⌋ … ⌈(i+1)·n/o⌉."""
    (height, width), (rows, cols) = maps.shape[-2:], size
    bins = []
    for i, j in product(range(rows), range(cols)):
        own_rows = slice(i * height // rows, -(-(i + 1) * height // rows))
        own_cols = slice(j * width // cols, -(-(j + 1) * width // cols))
        bins.append(maps[..., own_rows, own_cols].mean((-2, -1)))
    return torch.stack(bins, dim=-1).unflatten(-1, size)


def global_attention(branch, x, num_heads=1, max_kv_size=28):
    """Eq. 8."""
    half = x[:, :, ::2, ::2]
    n, _, h, w = half.shape
    q, k, v = conv(branch.qkv, half).chunk(3, dim=1)
    if max_kv_size is not None:
        size = (min(h, max_kv_size), min(w, max_kv_size))
        k, v = average_pool(k, size), average_pool(v, size)
    d = q.size(1) // num_heads
    attended = torch.empty_like(q)
    for i, head in product(range(n), range(num_heads)):
        own = slice(head * d, (head + 1) * d)
        scores = q[i, own].flatten(1).T @ k[i, own].flatten(1)
        exp = (scores / math.sqrt(d)).exp()
        rows = exp / exp.sum(1, keepdim=True)
        out = rows @ v[i, own].flatten(1).T  # (h·w, d)
        attended[i, own] = out.T.reshape(d, h, w)
    maps = [conv(branch.proj, attended)]
    if branch.conv is not None:
        maps.insert(0, conv(branch.conv, x, stride=2, padding=1))
    maps = norm(branch.head[0], torch.cat(maps, 1)).clamp(min=0)
    return norm(branch.head[3], conv(branch.head[2], maps))


def sar(module, x, **kwargs):
    """Eq. 9: the maps are broadcast to C × H × W."""
    height, width = x.shape[-2:]
    maps = []
    if module.channel is not None:
        maps.append(channel_attention(module.channel, x))
    if module.local_spatial is not None:
        maps.append(local_attention(module.local_spatial, x))
    if module.global_spatial is not None:
        small = global_attention(module.global_spatial, x, **kwargs)
        rows, cols = torch.arange(height) // 2, torch.arange(width) // 2
        maps.append(small[:, :, rows][:, :, :, cols])
    maps = [(1 / (1 + (-m).exp())).expand_as(x) for m in maps]
    return torch.stack(maps).amax(0).mean((1, 2, 3))


def weights(sars, scale_by_batch=True):
    """Eqs. 10–12, by default scaled to a mean of 1."""
    softmax = sars.exp() / sars.exp().sum()
    return softmax * len(sars) if scale_by_batch else softmax


def forward(module, x, scale_by_batch=True, **kwargs):
    """Eq. 13."""
    w = weights(sar(module, x, **kwargs), scale_by_batch)
    return x * w[:, None, None, None]
