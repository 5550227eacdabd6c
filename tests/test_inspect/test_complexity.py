import torch
from torch import nn

from mmba2m.inspect.complexity import count_flops, count_parameters


def test_counts_of_every_kind_of_layer():
    network = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.GroupNorm(2, 6),
        nn.ConvTranspose2d(6, 5, 2, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    small, large = 4 * 3, 8 * 6  # positions after the two convolutions
    expected = 6 * small * (4 // 2) * 9  # each output sees half the channels
    expected += 2 * 2 * 6 * small  # two norms
    expected += 5 * large * 6  # each output sees one input position
    expected += 5 * 3
    for device in ('cpu', 'meta'):
        network.to(device)
        x = torch.empty(1, 4, 7, 5, device=device)
        assert count_flops(network, lambda x=x: network(x)) == expected
        # hooks are gone: the next count starts from nothing
        assert count_flops(network, lambda x=x: network(x)) == expected
    parameters = (
        (6 * 2 * 9 + 6) + 2 * 6 + 2 * 6 + (6 * 5 * 4 + 5) + (5 * 3 + 3)
    )
    assert count_parameters(network) == parameters


def test_a_batch_counts_each_sample():
    network = nn.Linear(7, 2)
    x = torch.empty(3, 7)
    assert count_flops(network, lambda: network(x)) == 3 * 7 * 2
