import pytest
import torch
from torch import nn

from mmba2m.models.attentions.norm import BranchNorm

BN = dict(type='BN')
IN = dict(type='IN', affine=True)


def gn(num_groups):
    return dict(type='GN', num_groups=num_groups)


def make(cfg, channels=4, **kwargs):
    """Leaves no norm that does nothing."""
    layer = BranchNorm(cfg, channels, **kwargs)
    for name, tensor in layer.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.6)
    return layer


def batch_norm(layer, x, mean, var):
    scale = layer.norm.weight / (var + 1e-5).sqrt()
    shift = layer.norm.bias - mean * scale
    return x * scale[:, None, None] + shift[:, None, None]


def test_batch_norm_uses_its_statistics_on_one_value_per_channel():
    layer = make(BN).train()
    x = torch.randn(1, 4, 1, 1)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    mean, var = before['norm.running_mean'], before['norm.running_var']
    torch.testing.assert_close(layer(x), batch_norm(layer, x, mean, var))
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize('size', [(1, 1), (3, 5)])
def test_batch_norm_is_itself_on_two_values_per_channel(size, last):
    layer = make(BN, last=last).train()
    x = torch.randn(2, 4, *size)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    expected = batch_norm(layer, x, mean, var)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert layer.norm.num_batches_tracked == 1


@pytest.mark.parametrize(
    ('channels', 'num_groups', 'expected'),
    [(64, 32, 32), (48, 32, 16), (6, 4, 2), (1, 32, 1), (7, 32, 1)],
)
def test_group_norm_takes_the_common_divisor(channels, num_groups, expected):
    cfg = gn(num_groups)
    assert BranchNorm(cfg, channels).norm.num_groups == expected
    assert cfg == gn(num_groups)


@pytest.mark.parametrize(
    ('cfg', 'channels'), [(gn(32), 32), (gn(32), 4), (dict(type='IN'), 8)]
)
def test_norm_over_a_single_pooled_value_is_refused(cfg, channels):
    with pytest.raises(ValueError, match=rf'{channels} pooled channels'):
        BranchNorm(cfg, channels, pooled=True)
    BranchNorm(cfg, channels)


@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize(
    ('cfg', 'channels', 'size', 'options'),
    [
        # one value
        (gn(1), 1, (1, 1), {}),
        (gn(4), 4, (1, 1), {}),
        (IN, 4, (1, 1), {}),
        # the end of a branch
        (gn(1), 4, (3, 5), dict(last=True)),
        (gn(2), 4, (1, 1), dict(last=True, pooled=True)),
        (gn(4), 4, (1, 1), dict(last=True, pooled=True)),
        (IN, 4, (3, 5), dict(last=True)),
    ],
)
def test_norm_within_a_sample_only_scales_and_shifts(
    cfg, channels, size, options, n
):
    layer = make(cfg, channels, **options)
    x = torch.randn(n, channels, *size)
    norm = layer.norm
    expected = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    for training in (True, False):
        torch.testing.assert_close(layer.train(training)(x), expected)


@pytest.mark.parametrize('cfg', [BN, gn(1), gn(2), IN, dict(type='IN'), None])
@pytest.mark.parametrize('size', [(1, 1), (3, 5)])
@pytest.mark.parametrize('training', [True, False])
def test_an_empty_batch_passes_as_through_a_convolution(cfg, size, training):
    layer = make(cfg).train(training)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    x = torch.zeros(0, 4, *size, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all((p.grad == 0).all() for p in layer.parameters())
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


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
