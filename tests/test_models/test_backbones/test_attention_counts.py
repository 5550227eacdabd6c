"""Parameters of whole networks, with the modules where they sit."""

from importlib import import_module

import pytest
from torch import nn

from mmba2m import HOSTS
from mmba2m.inspect.complexity import count_parameters

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


@pytest.fixture(autouse=True)
def _leave_weights_uninitialised(monkeypatch):
    """Counting needs no values, and drawing them takes most of the time."""
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize(('depth', 'attention', 'expected'), COUNTS)
def test_number_of_parameters(depth, attention, expected, host):
    registry = import_module(f'{host}.registry').MODELS
    network = registry.build(
        dict(type='AttentionResNet', depth=depth, attention=attention)
    )
    classifier = 1000 * (network.feat_dim + 1)
    assert count_parameters(network) + classifier == expected
