import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmba2m.models.attentions.ba2m.branches import (
    ChannelAttention,
    GlobalSpatialAttention,
    LocalSpatialAttention,
)
from mmba2m.models.attentions.ba2m.pool_by_products import pool_by_products

BN = dict(type='BN')


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('c', [256, 512, 1024, 2048])
@pytest.mark.parametrize('r', [4, 16])
def test_number_of_parameters(c, r):
    d = c // r
    with torch.device('meta'):
        assert count(ChannelAttention(c, d, BN)) == 2 * c * d + 3 * d + 3 * c
        expected = c * d + 18 * d**2 + 10 * d + 3
        assert count(LocalSpatialAttention(c, d, BN)) == expected
        expected = 6 * c * d + d**2 / 4 + 5.5 * d + 3
        assert count(GlobalSpatialAttention(c, d, BN, 1, 28)) == expected


@pytest.mark.parametrize('size', [(28, 28), (31, 5), (7, 60), (84, 30)])
def test_pooling_by_products_is_adaptive_average_pooling(size):
    maps = torch.randn(2, 3, *size)
    expected = F.adaptive_avg_pool2d(maps, [min(s, 28) for s in size])
    torch.testing.assert_close(pool_by_products(maps, 28), expected)


@pytest.mark.parametrize(
    ('cls', 'options'),
    [
        (ChannelAttention, ()),
        (LocalSpatialAttention, ()),
        (GlobalSpatialAttention, (1, 28)),
    ],
)
def test_group_norm_leaves_the_mean_of_a_branch_to_the_sample(cls, options):
    """A constant added before the last norm reaches the SAR's mean."""
    branch = cls(8, 4, dict(type='GN', num_groups=1), *options)
    x = torch.randn(2, 8, 6, 5)
    before = branch(x)
    convs = [m for m in branch.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        convs[-1].bias += 3
    torch.testing.assert_close(branch(x), before + 3)
