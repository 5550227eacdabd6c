"""Modules against their equations, written out: a row for each form."""

from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from attention_checks import check_equation, norm, unequal_samples
from torch import nn

from mmba2m.models.attentions import (
    BAM,
    CBAM,
    ECA,
    GC,
    GE,
    SAAM,
    SE,
    SGE,
    SK,
    SRM,
    BridgeAttention,
)


def mlp(z, first, second):
    """Of vectors (N, C), by two 1×1 convolutions."""
    z = (z @ first.weight[..., 0, 0].T + first.bias).clamp(min=0)
    return z @ second.weight[..., 0, 0].T + second.bias


def se(module, x, z=None):
    z = x.flatten(2).mean(2) if z is None else z
    gate = mlp(z, module.conv1.conv, module.conv2.conv).sigmoid()
    return x * gate[..., None, None]


def saam(module, x):
    flat = x.flatten(2)  # (N, C, L)
    scores = (flat * module.score.weight[0, ..., 0]).sum(1, keepdim=True)
    scores = torch.exp(scores + module.score.bias)
    return se(module, x, (flat * scores / scores.sum(2, keepdim=True)).sum(2))


def gc(module, x):
    flat = x.flatten(2)
    scores = (flat * module.conv_mask.weight[0, ..., 0]).sum(1).exp()
    z = torch.einsum('ncl,nl->nc', flat, scores / scores.sum(1, keepdim=True))
    fc1, norm, _, fc2 = module.channel_add_conv
    hidden = z @ fc1.weight[..., 0, 0].T + fc1.bias
    scale, shift = norm.weight.flatten(), norm.bias.flatten()
    hidden = F.layer_norm(hidden, (4,), scale, shift).clamp(min=0)
    added = hidden @ fc2.weight[..., 0, 0].T + fc2.bias
    return x + added[..., None, None]


def eca(module, x):
    z = x.flatten(2).mean(2)
    weights = module.conv.weight.flatten()
    mixed = torch.zeros_like(z)
    for c, (j, weight) in product(range(8), enumerate(weights)):
        neighbour = c + j - len(weights) // 2
        if 0 <= neighbour < 8:
            mixed[:, c] += weight * z[:, neighbour]
    return x * mixed.sigmoid()[..., None, None]


def srm(module, x):
    flat = x.flatten(2)
    mean = flat.mean(2)
    square = (flat - mean[..., None]).square().sum(2)
    std = (square / max(flat.size(2) - 1, 1) + 1e-5).sqrt()
    z = mean * module.cfc[:, 0] + std * module.cfc[:, 1]
    return x * norm(module.norm, z[..., None, None]).sigmoid()


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


def scale_channels(module, x):
    """CBAM's first gate."""
    flat = x.flatten(2)
    pooled = (flat.mean(2), flat.max(2)[0])
    gate = sum(mlp(z, module.mlp[0], module.mlp[2]) for z in pooled)
    return x * gate.sigmoid()[..., None, None]


def cbam(module, x):
    y = scale_channels(module, x)
    maps = torch.stack([y.max(1)[0], y.mean(1)], dim=1)
    pad = module.conv.kernel_size[0] // 2
    maps = F.conv2d(maps, module.conv.weight, padding=pad)
    return y * norm(module.norm, maps).sigmoid()


def bam(module, x, dilation=4):
    fc1, norm1, _, fc2 = list(module.channel)[1:]
    channel = F.conv2d(x.mean((2, 3), keepdim=True), fc1.weight, fc1.bias)
    channel = norm(norm1, channel).clamp(min=0)
    channel = F.conv2d(channel, fc2.weight, fc2.bias)
    maps = x
    for i, pad in ((0, 0), (3, dilation), (6, dilation)):
        conv = module.spatial[i]
        maps = F.conv2d(maps, conv.weight, conv.bias, 1, pad, max(pad, 1))
        maps = norm(module.spatial[i + 1], maps).clamp(min=0)
    maps = F.conv2d(maps, module.spatial[9].weight, module.spatial[9].bias)
    return x * (1 + torch.sigmoid(channel * maps))


def gather(module, x):
    """Of GE, with norms behind its convolutions; means in 'theta-'."""
    if module.extent == 'global':
        if module.variant == 'theta-':
            return x.mean((2, 3), keepdim=True)
        conv, last = module.gather
        out = (x * conv.weight[:, 0]).sum((2, 3), keepdim=True)
        if conv.bias is not None:
            out = out + conv.bias[:, None, None]
        return norm(last, out)
    e = module.extent
    h, w = (-(-n // e) for n in x.shape[2:])
    if module.variant == 'theta-':
        means = x.new_zeros(*x.shape[:2], h, w)
        for i, j in product(range(h), range(w)):
            rows, cols = (
                slice(max(k * e - e + 1, 0), k * e + e) for k in (i, j)
            )
            means[..., i, j] = x[..., rows, cols].mean((2, 3))
        return means
    depth = {2: 1, 4: 2, 8: 3}[e]
    for i in range(depth):
        conv, norm_ = module.gather[3 * i : 3 * i + 2]
        x = F.conv2d(x, conv.weight, None, 2, 1, groups=x.size(1))
        x = norm(norm_, x)
        if i < depth - 1:
            x = x.clamp(min=0)
    assert x.shape[2:] == (h, w) and len(module.gather) == 3 * depth - 1
    return x


def ge(module, x):
    maps = gather(module, x)
    if module.variant == 'theta+':
        down, up = module.excite[1], module.excite[3]
        maps = F.conv2d(maps.clamp(min=0), down.weight, down.bias)
        maps = F.conv2d(maps.clamp(min=0), up.weight, up.bias)
    rows, cols = (
        torch.arange(o) * n // o
        for o, n in zip(x.shape[2:], maps.shape[2:], strict=True)
    )
    return x * maps[..., rows[:, None], cols].sigmoid()


@pytest.mark.parametrize(
    ('cls', 'cfg', 'literal'),
    [
        (SE, dict(reduction=2), se),
        (SAAM, dict(reduction=2), saam),
        (GC, dict(ratio=1 / 2), gc),
        *((ECA, dict(kernel_size=k), eca) for k in (1, 3, 5)),
        (SRM, dict(), srm),
        *((SGE, dict(groups=g), sge) for g in (1, 2, 8)),
        *((CBAM, dict(reduction=2, kernel_size=k), cbam) for k in (7, 3)),
        (BAM, dict(reduction=2), bam),
        (BAM, dict(reduction=2, dilation=2), partial(bam, dilation=2)),
        (GE, dict(variant='theta-'), ge),
        *(
            (GE, dict(variant=variant, extent=extent, reduction=2), ge)
            for variant in ('theta-', 'theta', 'theta+')
            for extent in (2, 4, 8)
        ),
        *(
            (GE, dict(map_size=size, variant=v, reduction=2, bias=bias), ge)
            for size in (6, (5, 7), 1)
            for v in ('theta', 'theta+')
            for bias in (True, False)
        ),
    ],
)
def test_equals_the_equation(cls, cfg, literal):
    module = cls(8, **cfg)
    check_equation(module, literal, getattr(module, 'map_size', None))


# Modules that read several maps of their block


def sk(module, features):
    x, u1 = features
    conv = module.conv[0]
    u2 = F.conv2d(
        x, conv.weight, None, conv.stride, conv.dilation, conv.dilation, 4
    )
    u2 = norm(module.conv[1], u2).clamp(min=0)
    pooled = (u1 + u2).mean((2, 3), keepdim=True)
    d = F.conv2d(pooled, module.select[0].weight)
    d = norm(module.select[1], d).clamp(min=0)
    first, second = F.conv2d(d, module.select[3].weight).exp().chunk(2, dim=1)
    return (first * u1 + second * u2) / (first + second)


@pytest.mark.parametrize(('stride', 'dilation'), [(1, 1), (2, 1), (1, 2)])
def test_sk(stride, dilation):
    cfg = dict(stride=stride, padding=dilation, dilation=dilation)
    convs = [nn.Conv2d(32, 8, 1), nn.Conv2d(8, 8, 3, **cfg).double()]
    module = SK.from_convs(convs, groups=4, reduction=2)
    assert module.conv[0].stride == (stride, stride)
    assert module.conv[0].dilation == (dilation, dilation)

    def make(n, size):
        x = unequal_samples(n, 8, *size).relu()
        return [x, convs[1](x).relu()]

    check_equation(module, sk, make=make)


def bridge(module, features):
    squeezed = [
        torch.einsum('nchw,mc->nm', x, bridge[1].weight[..., 0, 0])
        / x[0, 0].numel()
        for bridge, x in zip(module.bridges, features, strict=True)
    ]
    squeezed = [s[..., None, None] for s in squeezed]  # (N, m, 1, 1) each
    if module.version == 1:
        norms = [bridge[2] for bridge in module.bridges]
        s = sum(norm(*pair) for pair in zip(norms, squeezed, strict=True))
    else:
        v, b = module.select.weight[0], module.select.bias
        s = sum(v_i * s_i for v_i, s_i in zip(v, squeezed, strict=True))
        s = norm(module.norm, s + b)
    weight = module.excite[1].weight[..., 0, 0]
    gate = torch.einsum('nmhw,cm->nchw', s.clamp(min=0), weight).sigmoid()
    return features[-1] * gate


@pytest.mark.parametrize('widths', [(4, 4, 16), (8, 8)])
@pytest.mark.parametrize('version', [1, 2])
def test_bridge_attention(version, widths):
    convs = [nn.Conv2d(3, width, 1) for width in widths]
    module = BridgeAttention.from_convs(convs, version=version, reduction=2)

    def make(n, size):
        maps = [unequal_samples(n, width, *size) for width in widths]
        # conv2 may have a stride: the first map is larger
        maps[0] = unequal_samples(n, widths[0], 2 * size[0], 2 * size[1])
        return [*(x.relu() for x in maps[:-1]), maps[-1]]

    check_equation(module, bridge, make=make)
