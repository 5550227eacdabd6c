"""What does not fit is named, with the module."""

import pytest
import torch
from torch import nn

from mmba2m.models.attentions import SK
from mmba2m.registry import MODELS

CONV = dict(kernel_size=3, padding=1)
AA = dict(CONV, map_size=5, num_heads=2, min_head_channels=3, upsilon=0.25)
BRIDGE = ((4, 4, 16),)

ERRORS = [
    *(
        (name, (8,), dict(reduction=r), f'{name}.*reduction={r} and 8')
        for name in ('SE', 'SAAM', 'BAM', 'CBAM')
        for r in (0, -1, 9)
    ),
    *(
        (name, (16,), dict(kernel_size=k), f'of {name} .* got {k}')
        for name in ('CBAM', 'ECA')
        for k in (0, 6, -3)
    ),
    *(
        ('GC', (8,), dict(ratio=r), f'ratio={r} leaves GC none of 8')
        for r in (0, -1, 1 / 16)
    ),
    *(
        ('SGE', (8,), dict(groups=g), f'groups={g} of SGE .* 8 chan')
        for g in (0, 3, 64)
    ),
    ('SK', (64, 48), {}, 'groups=32 of SK.* 64 .* 48 '),
    ('SK', (48, 64), {}, 'groups=32 of SK.* 48 .* 64 '),
    ('SK', (64, 64), dict(groups=0), 'groups=0 of SK.* 64 .* 64 '),
    ('SK', (64, 64), dict(reduction=65), 'SK.*reduction=65 and 64'),
    ('GE', (4, 'plus'), {}, "variant.*theta-.*got 'plus'"),
    ('GE', (4,), dict(extent=3), 'extent.*global.*got 3'),
    (
        'GE',
        (4, 'theta+'),
        dict(extent=2, reduction=5),
        'GE.*reduction=5 and 4 channels',
    ),
    ('BridgeAttention', (*BRIDGE, 3), {}, r'version.*\(1, 2\), got 3'),
    (
        'BridgeAttention',
        (*BRIDGE, 1, 17),
        {},
        'BridgeAttention.*reduction=17 and 16 channels',
    ),
    (
        'BridgeAttention',
        (16,),
        {},
        "in_channels=16.*'attention' of a backbone",
    ),
    ('AAConv2d', (6, 12), dict(AA, padding=0), 'AAConv2d.*=3.*needs.*got 0'),
    ('AAConv2d', (6, 12), dict(AA, groups=4), '2 of the 12 .* 10 .*groups=4'),
    ('AAConv2d', (6, 12), dict(AA, upsilon=1), '12 of the 12 .*=1.* the 0 '),
    ('AAConv2d', (6, 12), dict(AA, num_heads=0), 'AAConv2d .* num_heads=0'),
    ('AAConv2d', (6, 12), dict(AA, kappa=-1), 'AAConv2d .* kappa=-1'),
    (
        'AAConv2d',
        (6, 12),
        dict(AA, min_head_channels=0),
        'AAConv2d .* min_head_channels=0',
    ),
    ('SASA', (16, 16), dict(CONV, dilation=2, padding=2), 'SASA.*dilation=2'),
    ('SASA', (16, 16), dict(CONV, groups=4), 'SASA.*got dilation=1.*groups=4'),
    ('SASA', (16, 16), dict(CONV, padding=0), 'SASA.*size=3.*needs.*1.*got 0'),
    ('SASA', (16, 16), dict(CONV, kernel_size=2), 'SASA.*size=2.*needs'),
    (
        'SASA',
        (16, 16),
        dict(CONV, window_size=4),
        'SASA must be odd.*got 4',
    ),
    (
        'SASA',
        (16, 16),
        dict(CONV, num_heads=3),
        '=3 .* multiple of 6 .*16',
    ),
    ('SASA', (16, 16), dict(CONV, num_heads=16), 'multiple of 32 channels'),
    ('AWConv2d', (48, 32, 3), dict(expand='out'), "AWConv2d.*full'.*'out'"),
    ('AWConv2d', (48, 32, 3), dict(reduction=0), 'AWConv2d.*reduction=0'),
    ('AWConv2d', (48, 32, 3), dict(reduction=64), 'AWConv2d.*=64 and 48'),
    ('AWConv2d', (48, 32, 3), dict(reduction=5), 'reduction=5 of .* 48 input'),
    ('AWConv2d', (48, 32, 3), dict(padding='same'), "of AWConv2d.*'same'"),
    (
        'AWConv2d',
        (48, 32, 3),
        dict(expand='full', reduction=4),
        '12 groups, which do not divide the 32 output channels',
    ),
]


@pytest.mark.parametrize(('name', 'args', 'cfg', 'message'), ERRORS)
def test_out_of_range(name, args, cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.get(name)(*args, **cfg)


def test_basic_blocks_are_refused():
    convs = [nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3)]
    with pytest.raises(ValueError, match=r'SK.*bottleneck.*basic block'):
        SK.from_convs(convs)


SIZED = [
    ('GE', dict(in_channels=4), 4, '.*2, 4 or 8.*theta-'),
    (
        'AAConv2d',
        dict(in_channels=4, out_channels=12, **CONV),
        4,
        '.*relative=False',
    ),
]


@pytest.mark.parametrize(('name', 'cfg', 'channels', 'ways'), SIZED)
def test_maps_of_one_size(name, cfg, channels, ways):
    with pytest.raises(ValueError, match=f'{name} .*map_size=\\({ways}'):
        MODELS.get(name)(**cfg)
    layer = MODELS.get(name)(**cfg, map_size=(5, 6))
    assert layer(torch.randn(2, channels, 5, 6)).isfinite().all()
    for size in ((6, 5), (5, 5), (1, 1)):
        message = rf'{name}.*\(5, 6\), got \({size[0]}, {size[1]}\)'
        with pytest.raises(ValueError, match=message):
            layer(torch.randn(2, channels, *size))
