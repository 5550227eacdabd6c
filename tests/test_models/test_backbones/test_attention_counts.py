"""Parameters of whole networks, with the modules where they sit."""

import pytest
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.inspect.complexity import build_on_meta, count_parameters

BAM = dict(type='BAM', stages=(True, True, True, False))
GE = dict(type='GE', map_size=(56, 28, 14, 7))
BA1 = dict(type='BridgeAttention', version=1)
BA2 = dict(type='BridgeAttention', version=2)
AA = dict(
    type='AAConv2d',
    stages=(False, True, True, True),
    map_size=(28, 14, 7),
)
COUNTS = [
    (50, None, 25557032),
    (50, BAM, 25915099),
    (101, BAM, 44907227),
    (50, GE, 31106600),
    (50, dict(GE, bias=True), 31121704),
    (50, dict(GE, variant='theta+', bias=True), 33652696),
    (50, dict(GE, variant='theta-'), 25557032),
    (50, dict(type='SK'), 26154496),
    (50, dict(type='AWConv2d'), 25714216),
    (50, dict(type='AWConv2d', expand='full'), 26893096),
    (50, AA, 25813872),
    (101, AA, 45391208),
    (50, dict(type='SASA'), 18038632),
    (101, dict(type='SASA'), 30376552),
    (18, BA1, 11820552),
    (50, BA1, 28706376),
    (18, BA2, 11820336),
    (50, BA2, 28702664),
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
