import pytest
import torch
from torch import nn

from mmba2m.models.attentions import SE
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.checkpoints.benchmark.profiling import (
    format_profile,
    profile_step,
    record_inputs,
)


def test_record_inputs_of_every_size_once():
    network = nn.Sequential(
        BA2M(8, 2),
        nn.Sequential(SE(8, reduction=2), SE(8, reduction=2)),
        nn.MaxPool2d(2),
        SE(8, reduction=2),
    ).eval()
    found = record_inputs(network, torch.randn(2, 8, 6, 4))
    assert {name: shape for name, (_, shape) in found.items()} == {
        '0': (2, 8, 6, 4),
        '1.0 × 2': (2, 8, 6, 4),
        '3': (2, 8, 3, 2),
    }
    assert found['1.0 × 2'][0] is network[1][0]
    # nothing is left in the network
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_record_inputs_of_a_plain_network():
    with pytest.raises(ValueError, match='no attention module'):
        record_inputs(nn.Conv2d(3, 4, 1), torch.randn(1, 3, 4, 4))


def test_profile_finds_operators_with_their_shapes():
    a, b = torch.randn(3, 5), torch.randn(5, 7)

    def step():
        for _ in range(4):
            torch.mm(a, b)

    operators = profile_step(step, torch.device('cpu'), rounds=3)
    seconds, count = operators['aten::mm', '3×5, 5×7']
    assert count == 4
    assert seconds > 0


def test_table():
    table = format_profile(
        {
            ('small', '2×1'): (1e-3, 1),
            ('large', '4×4, 4'): (4e-3, 2),
            ('tiny', ''): (5e-4, 3),
        },
        rows=1,
    )
    assert table.splitlines()[2:] == [
        '| 4.00 | large | 2 | 4×4, 4 |',
        '| 1.50 | others | 4 | 1.00 ms each at most |',
        '| 5.50 | **sum** | | |',
    ]
