"""Parameters of ResNets with modules where they sit, as published."""

import pytest
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.inspect.complexity import build_on_meta, count_parameters

SIZES = dict(map_size=(56, 28, 14, 7))
BEHIND_FIRST = dict(stages=(False, True, True, True))
ECA = [
    dict(type='ECA', kernel_size=k, stages=[i == j for j in range(4)])
    for i, k in enumerate((3, 5, 5, 7))
]
BA2 = dict(type='BridgeAttention', version=2)
# of each module: depth, options and what it has
PUBLISHED = dict(
    SE=[(50, {}, 28088024)],
    CBAM=[(50, {}, 28089624)],
    BAM=[
        (50, dict(stages=(True, True, True, False)), 25915099),
        (101, dict(stages=(True, True, True, False)), 44907227),
    ],
    GC=[
        (50, {}, 28105032),
        (50, BEHIND_FIRST, 28078773),
        (50, dict(BEHIND_FIRST, ratio=1 / 4), 35557941),
    ],
    ECA=[(50, {}, 25557032 + 86)],
    SGE=[(50, {}, 25559080)],
    SRM=[(50, {}, 25617448)],
    SAAM=[(50, {}, 28103144)],
    SK=[(50, {}, 26154496)],
    GE=[
        (50, dict(variant='theta-'), 25557032),
        (50, SIZES, 31106600),
        (50, dict(SIZES, bias=True), 31121704),
        (50, dict(SIZES, variant='theta+'), 33637592),
        (50, dict(SIZES, variant='theta+', bias=True), 33652696),
    ],
    BridgeAttention=[
        (18, dict(version=1), 11820552),
        (34, dict(version=1), 22034392),
        (50, dict(version=1), 28706376),
        (18, dict(version=2), 11820336),
        (34, dict(version=2), 22033968),
        (50, dict(version=2), 28702664),
    ],
    AWConv2d=[
        (50, {}, 25714216),
        (50, dict(reduction=8), 25871400),
        (50, dict(reduction=4), 26185768),
        (50, dict(expand='full'), 26893096),
    ],
    SASA=[(50, {}, 18038632), (101, {}, 30376552)],
    AAConv2d=[
        (50, dict(BEHIND_FIRST, map_size=(28, 14, 7)), 25813872),
        (101, dict(BEHIND_FIRST, map_size=(28, 14, 7)), 45391208),
    ],
)
COUNTS = [
    (depth, dict(options, type=name), count)
    for name, rows in PUBLISHED.items()
    for depth, options, count in rows
]
COUNTS += [
    (50, None, 25557032),
    (50, ECA, 25557032 + 80),
    # the numbers of several modules add up
    (50, [dict(type='SK'), BA2], 26154496 + 28702664 - 25557032),
]


@pytest.mark.parametrize('host', HOSTS)
def test_number_of_parameters(host):
    for depth, attention, expected in COUNTS:
        backbone = dict(
            type='AttentionResNet', depth=depth, attention=attention
        )
        network = build_on_meta(
            Config(dict(default_scope=host, model=backbone))
        )
        classifier = 1000 * (network.feat_dim + 1)
        count = count_parameters(network) + classifier
        assert count == expected, (depth, attention)
