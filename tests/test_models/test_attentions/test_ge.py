from itertools import product

import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_all_parameters_learn,
    assert_equal,
    count_network,
    norm,
    randomize,
    unequal_samples,
)
from mmengine.model import kaiming_init
from torch import nn

from mmba2m.models.attentions import GE


def upsample(maps, size):
    rows, cols = (
        torch.arange(o) * n // o
        for o, n in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., rows[:, None], cols]


@pytest.mark.parametrize('size', [(8, 8), (7, 10), (1, 1)])
def test_global_pooling(size):
    x = unequal_samples(3, 4, *size)
    expected = x * x.mean((2, 3), keepdim=True).sigmoid()
    assert_equal(GE(4, 'theta-')(x), expected)


@pytest.mark.parametrize('size', [(8, 16), (9, 5), (1, 1)])
@pytest.mark.parametrize('extent', [2, 4, 8])
def test_pooling_over_an_extent(extent, size):
    x = unequal_samples(2, 3, *size)
    h, w = (-(-n // extent) for n in size)
    means = x.new_zeros(2, 3, h, w)
    for i, j in product(range(h), range(w)):
        rows, cols = (
            slice(max(k * extent - extent + 1, 0), k * extent + extent)
            for k in (i, j)
        )
        means[..., i, j] = x[..., rows, cols].mean((2, 3))
    expected = x * upsample(means, size).sigmoid()
    assert_equal(GE(3, 'theta-', extent)(x), expected)


def gather(module, x):
    """Of 'theta' and 'theta+', over an extent."""
    layers = list(module.gather)
    while layers:
        conv, norm_ = layers[:2]
        x = F.conv2d(x, conv.weight, None, 2, 1, groups=x.size(1))
        x = norm(norm_, x)
        layers = layers[3:]
        if layers:
            x = x.clamp(min=0)
    return x


def excite(module, x):
    """The two convolutions of 'theta+'."""
    down, up = module.excite[1], module.excite[3]
    x = F.conv2d(x.clamp(min=0), down.weight, down.bias).clamp(min=0)
    return F.conv2d(x, up.weight, up.bias)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(8, 16), (9, 5), (1, 1)])
@pytest.mark.parametrize('extent', [2, 4, 8])
@pytest.mark.parametrize('variant', ['theta', 'theta+'])
def test_convolutions_over_an_extent(variant, extent, size, n, training):
    module = randomize(GE(4, variant, extent, reduction=2)).train(training)
    assert len(module.gather) == {2: 2, 4: 5, 8: 8}[extent]
    x = unequal_samples(n, 4, *size)
    gathered = gather(module, x)
    assert gathered.shape[2:] == tuple(-(-k // extent) for k in size)
    if variant == 'theta+':
        gathered = excite(module, gathered)
    assert_equal(module(x), x * upsample(gathered, size).sigmoid())


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('map_size', [6, (5, 7), 1])
@pytest.mark.parametrize('variant', ['theta', 'theta+'])
@pytest.mark.parametrize('bias', [True, False])
def test_convolution_over_the_map(bias, variant, map_size, n, training):
    module = GE(4, variant, map_size=map_size, reduction=2, bias=bias)
    randomize(module).train(training)
    x = unequal_samples(n, 4, *module.map_size)
    conv = module.gather[0]
    gathered = (x * conv.weight[:, 0]).sum((2, 3), keepdim=True)
    if bias:
        gathered = gathered + conv.bias[:, None, None]
    gathered = norm(module.gather[1], gathered)
    if variant == 'theta+':
        gathered = excite(module, gathered)
    assert_equal(module(x), x * gathered.sigmoid())


@pytest.mark.parametrize(
    ('depth', 'cfg', 'expected'),
    [
        (50, dict(variant='theta-'), 25557032),
        (50, dict(), 31106600),
        (50, dict(bias=True), 31121704),
        (50, dict(variant='theta+'), 33637592),
        (50, dict(variant='theta+', bias=True), 33652696),
        (101, dict(), 53545512),
    ],
)
def test_number_of_parameters(depth, cfg, expected):
    total = count_network(
        depth, lambda i, widths: GE(widths[-1], map_size=56 // 2**i, **cfg)
    )
    assert total == expected


@pytest.mark.parametrize('cfg', [dict(extent=4), dict(map_size=5)])
def test_all_parameters_learn(cfg):
    module = randomize(GE(4, 'theta+', reduction=1, bias=True, **cfg))
    assert_all_parameters_learn(module, unequal_samples(3, 4, 5, 5))


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


def test_autocast():
    module = GE(4, 'theta+', 2, reduction=2).eval()
    x = torch.randn(2, 4, 6, 6)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x)
    torch.testing.assert_close(result, module(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('variant', ['theta', 'theta+'])
def test_global_extent_needs_the_size(variant):
    ways = r"map_size.*input_size=224.*2, 4 or 8.*variant='theta-'"
    with pytest.raises(ValueError, match=ways):
        GE(4, variant)


@pytest.mark.parametrize('size', [(6, 5), (7, 7), (1, 1)])
def test_another_size_than_built_for(size):
    module = GE(4, map_size=(5, 6))
    message = rf'\(5, 6\), got \({size[0]}, {size[1]}\)'
    with pytest.raises(ValueError, match=message):
        module(torch.randn(2, 4, *size))


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(variant='plus'), "variant.*theta-.*got 'plus'"),
        (dict(extent=3), 'extent.*global.*got 3'),
        (
            dict(variant='theta+', extent=2, reduction=5),
            'GE.*reduction=5 and 4 channels',
        ),
    ],
)
def test_arguments_out_of_range(cfg, message):
    with pytest.raises(ValueError, match=message):
        GE(4, **cfg)
