from itertools import product

import pytest
import torch
import torch.nn.functional as F
from attention_checks import check_equation, norm, unequal_samples
from mmengine.model import kaiming_init
from torch import nn

from mmba2m.models.attentions import GE


def upsample(maps, size):
    rows, cols = (
        torch.arange(o) * n // o
        for o, n in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., rows[:, None], cols]


def pool(x, extent):
    """Means of 'theta-'."""
    if extent == 'global':
        return x.mean((2, 3), keepdim=True)
    h, w = (-(-n // extent) for n in x.shape[2:])
    means = x.new_zeros(*x.shape[:2], h, w)
    for i, j in product(range(h), range(w)):
        rows, cols = (
            slice(max(k * extent - extent + 1, 0), k * extent + extent)
            for k in (i, j)
        )
        means[..., i, j] = x[..., rows, cols].mean((2, 3))
    return means


def convolve(module, x):
    """Of 'theta' and 'theta+'."""
    layers = list(module.gather)
    if module.extent == 'global':
        out = (x * layers[0].weight[:, 0]).sum((2, 3), keepdim=True)
        if layers[0].bias is not None:
            out = out + layers[0].bias[:, None, None]
        return norm(layers[1], out)
    while layers:
        conv, norm_ = layers[:2]
        x = norm(norm_, F.conv2d(x, conv.weight, None, 2, 1, groups=x.size(1)))
        layers = layers[3:]
        if layers:
            x = x.clamp(min=0)
    return x


def ge(module, x):
    if module.variant == 'theta-':
        gathered = pool(x, module.extent)
    else:
        gathered = convolve(module, x)
    if module.variant == 'theta+':
        down, up = module.excite[1], module.excite[3]
        gathered = gathered.clamp(min=0)
        gathered = F.conv2d(gathered, down.weight, down.bias).clamp(min=0)
        gathered = F.conv2d(gathered, up.weight, up.bias)
    return x * upsample(gathered, x.shape[2:]).sigmoid()


def make(n, size):
    return unequal_samples(n, 4, *size)


SIZES = ((8, 16), (9, 5), (1, 1))


@pytest.mark.parametrize('extent', ['global', 2, 4, 8])
def test_pooling(extent):
    check_equation(GE(4, 'theta-', extent), ge, SIZES, make)


@pytest.mark.parametrize('extent', [2, 4, 8])
@pytest.mark.parametrize('variant', ['theta', 'theta+'])
def test_convolutions_over_an_extent(variant, extent):
    module = GE(4, variant, extent, reduction=2)
    assert len(module.gather) == {2: 2, 4: 5, 8: 8}[extent]
    for size in SIZES:
        expected = tuple(-(-k // extent) for k in size)
        assert module.gather(torch.randn(2, 4, *size)).shape[2:] == expected
    check_equation(module, ge, SIZES, make)


@pytest.mark.parametrize('map_size', [6, (5, 7), 1])
@pytest.mark.parametrize('variant', ['theta', 'theta+'])
@pytest.mark.parametrize('bias', [True, False])
def test_convolution_over_the_map(bias, variant, map_size):
    module = GE(4, variant, map_size=map_size, reduction=2, bias=bias)
    check_equation(module, ge, [module.map_size], make)


@pytest.mark.parametrize('again', [False, True])
def test_gates_start_close_to_one_half(again):
    module = GE(64, 'theta+', extent=2)
    convs = [m for m in module.excite if isinstance(m, nn.Conv2d)]
    if again:
        for conv in convs:
            kaiming_init(conv, bias=1)  # as the hosts do, but for the bias
        module.init_weights()
    for conv in convs:
        assert 0.008 < conv.weight.std() < 0.012
        assert not conv.bias.any()
    x = torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(module(x), x / 2, rtol=0.02, atol=0)
