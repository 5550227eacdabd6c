"""What does not fit is named, with the module."""

import pytest
import torch

from mmba2m.registry import MODELS

CONV = dict(kernel_size=3, padding=1)
AA = dict(CONV, map_size=5, num_heads=2, upsilon=0.25)
WIDTHS = ((4, 4, 16),)


def gn(num_groups):
    return dict(type='GN', num_groups=num_groups)


# of each module: its positional arguments, its options and the message
ERRORS = dict(
    BA2M=[
        ((8,), dict(), 'BA2M.*reduction=16 and in_channels=8'),
        ((8,), dict(reduction=0), 'reduction=0 and in_channels=8'),
        ((64,), dict(branches=()), r'branches .*\(\)'),
        ((64,), dict(branches=('local', 'lobal')), "'lobal'"),
        ((64,), dict(inference='mean'), "'mean'"),
        ((64,), dict(num_heads=3), 'num_heads=3 .* 2 '),
        ((64,), dict(max_kv_size=0), 'max_kv_size .* 0'),
        ((64,), dict(norm_cfg=gn(32)), 'num_groups.* 4 pooled channels'),
        ((64,), dict(norm_cfg=dict(type='IN')), "'IN'"),
        ((64,), dict(norm_cfg=None, zero_init=True), 'Identity'),
    ],
    SE=[((8,), dict(reduction=r), f'SE.*={r} and .*=8') for r in (0, 9)],
    SAAM=[((8,), dict(reduction=9), 'SAAM.*reduction=9 and in_channels=8')],
    BAM=[((8,), dict(reduction=-1), 'BAM.*reduction=-1 and in_channels=8')],
    CBAM=[
        ((8,), dict(reduction=9), 'CBAM.*reduction=9 and in_channels=8'),
        ((16,), dict(kernel_size=6), 'kernel_size of CBAM .* got 6'),
    ],
    ECA=[((16,), dict(kernel_size=k), f'ECA .* got {k}') for k in (0, 6, -3)],
    GC=[((8,), dict(ratio=r), f'={r} leaves GC none of 8') for r in (0, 0.1)],
    SGE=[((8,), dict(groups=g), f'={g} of SGE .* 8 chan') for g in (0, 3, 64)],
    SK=[
        ((64, 48), {}, 'groups=32 of SK.* 64 .* 48 '),
        ((48, 64), {}, 'groups=32 of SK.* 48 .* 64 '),
        ((64, 64), dict(groups=0), 'groups=0 of SK.* 64 .* 64 '),
        ((32, 64), dict(reduction=65), 'SK.*reduction=65 and out_.*=64'),
    ],
    GE=[
        ((4, 'plus'), {}, "variant.*theta-.*got 'plus'"),
        ((4,), dict(extent=3), 'extent.*global.*got 3'),
        ((4, 'theta+', 2), dict(reduction=5), 'GE.*reduction=5 and .*=4'),
    ],
    BridgeAttention=[
        ((*WIDTHS, 3), {}, 'version.* 1 or 2, got 3'),
        ((*WIDTHS, 1, 17), {}, 'BridgeAttention.*reduction=17 and .*=16'),
        ((16,), {}, "in_channels=16.*'attention' of a backbone"),
    ],
    AAConv2d=[
        ((6, 12), dict(AA, padding=0), 'AAConv2d.*=3.*needs.*got 0'),
        ((6, 12), dict(AA, groups=4), '2 of the 12 .* 10 .*groups=4'),
        ((6, 12), dict(AA, upsilon=1), '12 of the 12 .*=1.* the 0 '),
        ((6, 12), dict(AA, num_heads=0), 'AAConv2d .* num_heads=0'),
        ((6, 12), dict(AA, kappa=-1), 'AAConv2d .* kappa=-1'),
    ],
    SASA=[
        ((16, 16), dict(CONV, dilation=2, padding=2), 'SASA.*dilation=2'),
        ((16, 16), dict(CONV, groups=4), 'SASA.*got dilation=1.*groups=4'),
        ((16, 16), dict(CONV, padding=0), 'SASA.*size=3.*needs.*1.*got 0'),
        ((16, 16), dict(CONV, window_size=4), 'SASA must be odd.*got 4'),
        ((16, 16), dict(CONV, num_heads=3), '=3 .* multiple of 6 .*16'),
    ],
    AWConv2d=[
        ((48, 32, 3), dict(expand='out'), "AWConv2d.*full'.*'out'"),
        ((48, 32, 3), dict(reduction=0), 'reduction=0 of AWConv2d'),
        ((48, 32, 3), dict(reduction=5), 'reduction=5 of .* 48 input'),
        ((48, 32, 3), dict(padding='same'), "of AWConv2d.*'same'"),
        (
            (48, 32, 3),
            dict(expand='full', reduction=4),
            '12 groups, which do not divide the 32 output channels',
        ),
    ],
)


@pytest.mark.parametrize(
    ('name', 'args', 'cfg', 'message'),
    [(name, *row) for name, rows in ERRORS.items() for row in rows],
)
def test_out_of_range(name, args, cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.get(name)(*args, **cfg)


@pytest.mark.parametrize(
    ('name', 'args', 'cfg', 'ways'),
    [
        ('GE', (4,), {}, '.*2, 4 or 8.*theta-'),
        ('AAConv2d', (4, 12), CONV, '.*relative=False'),
    ],
)
def test_maps_of_one_size(name, args, cfg, ways):
    with pytest.raises(ValueError, match=f'{name} .*map_size=\\({ways}'):
        MODELS.get(name)(*args, **cfg)
    layer = MODELS.get(name)(*args, **cfg, map_size=(5, 6))
    assert layer(torch.randn(2, 4, 5, 6)).isfinite().all()
    for size in ((6, 5), (5, 5), (1, 1)):
        message = rf'{name}.*\(5, 6\), got \({size[0]}, {size[1]}\)'
        with pytest.raises(ValueError, match=message):
            layer(torch.randn(2, 4, *size))
