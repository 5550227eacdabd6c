"""Parameters of ResNets with a module in each block, as published."""

import pytest
import torch

from mmba2m.registry import MODELS

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
PLAIN = {18: 11689512, 34: 21797672, 50: 25557032}
MAPS = [56, 28, 14, 7]
BEHIND_FIRST = [0, 1, 1, 1]


def count_network(name, depth, stages=(1, 1, 1, 1), **cfg):
    """Counts; an argument that is a list has one value for each stage."""
    cls = MODELS.get(name)
    position = cls.positions[0]
    total = PLAIN[depth]
    for i, number in enumerate(BLOCKS[depth]):
        w = 64 * 2**i
        widths = [w, w] if depth < 50 else [w, w, 4 * w]
        options = {
            key: value[i] if isinstance(value, list) else value
            for key, value in cfg.items()
        }
        if not stages[i]:
            continue
        with torch.device('meta'):
            if position == 'conv2':
                module = cls(w, w, 3, padding=1, bias=False, **options)
                total -= 9 * w**2 * number  # of what it replaces
            elif position == 'after_conv2':
                module = cls(w, w, **options)
            elif hasattr(cls, 'from_convs'):
                module = cls(widths, **options)
            else:
                module = cls(widths[-1], **options)
        added = sum(p.numel() for p in module.parameters())
        total += added * (1 if position == 'after_stage' else number)
    return total


COUNTS = [
    ('SE', 50, {}, 28088024),
    ('CBAM', 50, {}, 28089624),
    ('BAM', 50, dict(stages=(1, 1, 1, 0)), 25915099),
    ('GC', 50, {}, 28105032),
    ('GC', 50, dict(stages=BEHIND_FIRST), 28078773),
    ('GC', 50, dict(stages=BEHIND_FIRST, ratio=1 / 4), 35557941),
    ('ECA', 50, {}, PLAIN[50] + 86),
    ('ECA', 50, dict(kernel_size=[3, 5, 5, 7]), PLAIN[50] + 80),
    ('SGE', 50, {}, 25559080),
    ('SRM', 50, {}, 25617448),
    ('SAAM', 50, {}, 28103144),
    ('SK', 50, {}, 26154496),
    ('GE', 50, dict(variant='theta-'), 25557032),
    ('GE', 50, dict(map_size=MAPS), 31106600),
    ('GE', 50, dict(map_size=MAPS, bias=True), 31121704),
    ('GE', 50, dict(map_size=MAPS, variant='theta+'), 33637592),
    ('GE', 50, dict(map_size=MAPS, variant='theta+', bias=True), 33652696),
    ('BridgeAttention', 18, dict(version=1), 11820552),
    ('BridgeAttention', 34, dict(version=1), 22034392),
    ('BridgeAttention', 50, dict(version=1), 28706376),
    ('BridgeAttention', 18, dict(version=2), 11820336),
    ('BridgeAttention', 34, dict(version=2), 22033968),
    ('BridgeAttention', 50, dict(version=2), 28702664),
    ('AWConv2d', 50, {}, 25714216),
    ('AWConv2d', 50, dict(reduction=8), 25871400),
    ('AWConv2d', 50, dict(reduction=4), 26185768),
    ('AWConv2d', 50, dict(expand='full'), 26893096),
    ('SASA', 50, {}, 18038632),
    ('AAConv2d', 50, dict(map_size=MAPS, stages=BEHIND_FIRST), 25813872),
]


@pytest.mark.parametrize(('name', 'depth', 'cfg', 'expected'), COUNTS)
def test_number_of_parameters(name, depth, cfg, expected):
    assert count_network(name, depth, **cfg) == expected
