import ba2m_oracle as oracle
import pytest
import torch
from torch import nn

from mmba2m.models.attentions.ba2m.branches import (
    BranchNorm,
    ChannelAttention,
    GlobalSpatialAttention,
    LocalSpatialAttention,
)

BN = dict(type='BN')


def count(module):
    return sum(p.numel() for p in module.parameters())


def randomize(module):
    """Leaves no zero bias and no norm that does nothing."""
    for name, tensor in module.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.6)
    return module


def unequal_samples(*shape, dtype=torch.float64):
    scale = torch.linspace(0.5, 2, shape[0], dtype=dtype)
    x = torch.randn(*shape, dtype=dtype) + torch.randn(
        *shape[:2], 1, 1, dtype=dtype
    )
    return x * scale.view(-1, 1, 1, 1)


@pytest.mark.parametrize('c', [256, 512, 1024, 2048])
@pytest.mark.parametrize('r', [4, 16])
def test_number_of_parameters(c, r):
    d = c // r
    assert count(ChannelAttention(c, d, BN)) == 2 * c * d + 3 * d + 3 * c
    expected = c * d + 18 * d**2 + 10 * d + 3
    assert count(LocalSpatialAttention(c, d, BN)) == expected
    expected = 6 * c * d + d**2 / 4 + 5.5 * d + 3
    assert count(GlobalSpatialAttention(c, d, BN, 1, 28)) == expected


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('size', [(6, 6), (5, 8), (7, 3), (1, 1)])
@pytest.mark.parametrize('d', [4, 3, 1])
def test_branches_equal_the_literal_form(d, size, training):
    x = unequal_samples(3, 8, *size)
    for branch, literal in (
        (ChannelAttention(8, d, BN), oracle.channel_attention),
        (LocalSpatialAttention(8, d, BN), oracle.local_attention),
        (GlobalSpatialAttention(8, d, BN, 1, 28), oracle.global_attention),
    ):
        randomize(branch.double()).train(training)
        expected = literal(branch, x)
        torch.testing.assert_close(branch(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('num_heads', [1, 2, 4])
def test_heads_attend_separately(num_heads):
    branch = GlobalSpatialAttention(8, 8, BN, num_heads, None).double()
    x = unequal_samples(2, 8, 6, 5)
    randomize(branch)
    expected = oracle.global_attention(branch, x, num_heads, None)
    torch.testing.assert_close(branch(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('num_heads', [1, 2])
@pytest.mark.parametrize('max_kv_size', [1, 2, 4, 5])
def test_keys_and_values_are_pooled(max_kv_size, num_heads):
    branch = GlobalSpatialAttention(8, 4, BN, num_heads, max_kv_size).double()
    x = unequal_samples(2, 8, 12, 9)  # 6 × 5 positions
    randomize(branch)
    expected = oracle.global_attention(branch, x, num_heads, max_kv_size)
    torch.testing.assert_close(branch(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('size', [(12, 9), (11, 12), (1, 12)])
def test_keys_and_values_within_the_limit_are_untouched(size):
    x = unequal_samples(2, 8, *size)
    limited = GlobalSpatialAttention(8, 4, BN, 1, 6).double()
    free = GlobalSpatialAttention(8, 4, BN, 1, None).double()
    free.load_state_dict(randomize(limited).state_dict())
    assert torch.equal(limited(x), free(x))


def test_global_branch_halves_the_resolution():
    branch = GlobalSpatialAttention(8, 4, BN, 1, 28)
    assert branch(torch.randn(2, 8, 7, 10)).shape == (2, 1, 4, 5)


@pytest.mark.parametrize('num_heads', [0, -1, 3])
def test_heads_must_divide_the_channels(num_heads):
    with pytest.raises(ValueError, match=rf'num_heads={num_heads}\b.* 4 '):
        GlobalSpatialAttention(16, 8, BN, num_heads, 28)


def test_batch_norm_uses_its_statistics_on_one_value_per_channel():
    layer = randomize(BranchNorm(BN, 4)).train()
    x = torch.randn(1, 4, 1, 1)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    result = layer(x)
    mean, var = layer.norm.running_mean, layer.norm.running_var
    expected = (x.flatten() - mean) / (var + 1e-5).sqrt()
    expected = expected * layer.norm.weight + layer.norm.bias
    torch.testing.assert_close(result.flatten(), expected)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


def test_batch_norm_is_itself_on_two_values_per_channel():
    layer = randomize(BranchNorm(BN, 4)).train()
    x = torch.randn(2, 4, 1, 1)
    expected = oracle.norm(layer, x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert layer.norm.num_batches_tracked == 1


@pytest.mark.parametrize(
    ('channels', 'num_groups', 'expected'),
    [(64, 32, 32), (48, 32, 16), (6, 4, 2), (1, 32, 1), (7, 32, 1)],
)
def test_group_norm_takes_the_common_divisor(channels, num_groups, expected):
    cfg = dict(type='GN', num_groups=num_groups)
    layer = BranchNorm(cfg, channels)
    assert layer.norm.num_groups == expected
    assert cfg == dict(type='GN', num_groups=num_groups)


@pytest.mark.parametrize(
    ('cfg', 'channels'),
    [
        (dict(type='GN', num_groups=32), 32),
        (dict(type='GN', num_groups=32), 4),
        (dict(type='IN'), 8),
    ],
)
def test_norm_over_a_single_pooled_value_is_refused(cfg, channels):
    with pytest.raises(ValueError, match=rf'{channels} pooled channels'):
        BranchNorm(cfg, channels, pooled=True)
    BranchNorm(cfg, channels)


@pytest.mark.parametrize(
    ('cfg', 'channels'),
    [
        (dict(type='GN', num_groups=1), 1),
        (dict(type='GN', num_groups=4), 4),
        (dict(type='IN', affine=True), 4),
    ],
)
@pytest.mark.parametrize('n', [1, 2])
def test_norm_within_a_sample_only_scales_and_shifts_one_value(
    cfg, channels, n
):
    layer = randomize(BranchNorm(cfg, channels))
    x = torch.randn(n, channels, 1, 1)
    norm = layer.norm
    expected = x.flatten(1) * norm.weight + norm.bias
    for training in (True, False):
        result = layer.train(training)(x)
        torch.testing.assert_close(result.flatten(1), expected)


@pytest.mark.parametrize(
    ('cfg', 'pooled'),
    [
        (dict(type='GN', num_groups=1), False),
        (dict(type='GN', num_groups=2), True),
        (dict(type='GN', num_groups=4), True),
        (dict(type='IN', affine=True), False),
    ],
)
def test_norm_within_a_sample_only_scales_and_shifts_at_the_end(cfg, pooled):
    layer = randomize(BranchNorm(cfg, 4, pooled, last=True))
    x = torch.randn(3, 4, *((1, 1) if pooled else (3, 5)))
    norm = layer.norm
    expected = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    for training in (True, False):
        torch.testing.assert_close(layer.train(training)(x), expected)


def test_batch_norm_is_itself_at_the_end():
    layer = randomize(BranchNorm(BN, 4, last=True)).train()
    x = torch.randn(2, 4, 3, 5)
    expected = oracle.norm(layer, x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


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


def test_batch_norm_without_statistics_says_what_it_needs():
    layer = BranchNorm(dict(type='BN', track_running_stats=False), 4)
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        layer(torch.randn(1, 4, 1, 1))


def test_no_norm():
    layer = BranchNorm(None, 4, pooled=True)
    x = torch.randn(1, 4, 1, 1)
    assert layer(x) is x
    assert not list(layer.parameters())


def test_frozen_norm_keeps_requires_grad():
    layer = BranchNorm(dict(type='BN', requires_grad=False), 4)
    assert isinstance(layer.norm, nn.BatchNorm2d)
    assert not any(p.requires_grad for p in layer.parameters())
