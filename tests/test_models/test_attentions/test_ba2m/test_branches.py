import ba2m_oracle as oracle
import pytest
import torch
import torch.nn.functional as F
from ba2m_cases import assert_near, make_input, randomize
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


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('size', [(6, 6), (5, 8), (7, 3), (1, 1)])
@pytest.mark.parametrize('d', [4, 3, 1])
def test_branches_equal_the_literal_form(d, size, training):
    x = make_input(3, 8, *size)
    for branch, literal in (
        (ChannelAttention(8, d, BN), oracle.channel_attention),
        (LocalSpatialAttention(8, d, BN), oracle.local_attention),
        (GlobalSpatialAttention(8, d, BN, 1, 28), oracle.global_attention),
    ):
        randomize(branch.double()).train(training)
        assert_near(branch(x), literal(branch, x))


@pytest.mark.parametrize('size', [(12, 9), (11, 12), (1, 12)])
def test_keys_and_values_within_the_limit_are_untouched(size):
    x = make_input(2, 8, *size)
    limited = GlobalSpatialAttention(8, 4, BN, 1, 6).double()
    free = GlobalSpatialAttention(8, 4, BN, 1, None).double()
    free.load_state_dict(randomize(limited).state_dict())
    assert torch.equal(limited(x), free(x))


@pytest.mark.parametrize('size', [(28, 28), (31, 5), (7, 60), (84, 30)])
def test_pooling_by_products_is_adaptive_average_pooling(size):
    maps = torch.randn(2, 3, *size)
    expected = F.adaptive_avg_pool2d(maps, [min(s, 28) for s in size])
    torch.testing.assert_close(pool_by_products(maps, 28), expected)


@pytest.mark.parametrize('num_heads', [0, -1, 3])
def test_heads_must_divide_the_channels(num_heads):
    with pytest.raises(ValueError, match=rf'num_heads={num_heads}\b.* 4 '):
        GlobalSpatialAttention(16, 8, BN, num_heads, 28)


@pytest.mark.parametrize('name', ['channel', 'local', 'global'])
def test_group_norm_leaves_the_mean_of_a_branch_to_the_sample(name):
    """A constant added before the last norm reaches the SAR's mean."""
    cfg = dict(type='GN', num_groups=1)
    branch = {
        'channel': lambda: ChannelAttention(8, 4, cfg),
        'local': lambda: LocalSpatialAttention(8, 4, cfg),
        'global': lambda: GlobalSpatialAttention(8, 4, cfg, 1, 28),
    }[name]()
    x = torch.randn(2, 8, 6, 5)
    before = branch(x)
    convs = [m for m in branch.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        convs[-1].bias += 3
    torch.testing.assert_close(branch(x), before + 3)
