import pytest
import torch
from attention_checks import assert_equal, norm, randomize, unequal_samples
from mmcv.cnn import fuse_conv_bn
from mmengine.model import revert_sync_batchnorm
from torch import nn

from mmba2m.models.attentions.norm import Branch, BranchNorm

BN = dict(type='BN')
IN = dict(type='IN', affine=True)


def gn(num_groups):
    return dict(type='GN', num_groups=num_groups)


def make(cfg, channels=4, **kwargs):
    return randomize(BranchNorm(cfg, channels, **kwargs))


@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 1, 1), (2, 3, 5)])
def test_batch_norm_uses_its_statistics_on_one_value(shape, last):
    """Per channel; on more it is itself."""
    layer = make(BN, last=last).train()
    x = unequal_samples(shape[0], 4, *shape[1:])
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    assert_equal(layer(x), norm(layer, x))
    for key, value in layer.state_dict().items():
        kept = shape == (1, 1, 1) or key in ('norm.weight', 'norm.bias')
        assert torch.equal(value, before[key]) == kept


def test_group_norm_takes_the_common_divisor():
    for channels, expected in ((64, 32), (48, 16), (7, 1)):
        cfg = gn(32)
        assert BranchNorm(cfg, channels).norm.num_groups == expected
        assert cfg == gn(32)


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
    x = unequal_samples(n, channels, *size)
    scale, shift = layer.norm.weight, layer.norm.bias
    expected = x * scale[:, None, None] + shift[:, None, None]
    for training in (True, False):
        assert_equal(layer.train(training)(x), expected)


@pytest.mark.parametrize('cfg', [BN, gn(1), gn(2), IN, dict(type='IN'), None])
@pytest.mark.parametrize('size', [(1, 1), (3, 5)])
@pytest.mark.parametrize('training', [True, False])
def test_an_empty_batch_passes_as_through_a_convolution(cfg, size, training):
    layer = make(cfg).train(training)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    x = torch.zeros(0, 4, *size).double().requires_grad_()
    y = layer(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert all((p.grad == 0).all() for p in layer.parameters())
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


def test_no_norm():
    layer = BranchNorm(None, 4, pooled=True)
    x = torch.randn(1, 4, 1, 1)
    assert layer(x) is x and not list(layer.parameters())


@pytest.mark.parametrize('cfg', [BN, dict(type='mmba2m.RunningBN'), gn(2)])
def test_hosts_fold_batch_norms_at_inference(cfg):
    convs = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3)]
    one, two = BranchNorm(cfg, 4), BranchNorm(cfg, 4)
    branch = randomize(Branch(convs[0], one, nn.ReLU(), convs[1], two))
    keys, x = list(branch.state_dict()), unequal_samples(2, 3, 5, 5)
    branch.train()(x)
    expected = branch.eval()(x)
    assert not any(m.training for m in branch.modules())
    assert list(branch.state_dict()) == keys
    assert all(m.training for m in branch.train().modules())
    fused = fuse_conv_bn(branch.eval())
    assert_equal(fused(x), expected)
    left = [m for m in fused.modules() if isinstance(m, BranchNorm)]
    assert len(left) == (0 if cfg == BN else 2)


@pytest.mark.parametrize('training', [True, False])
def test_conversions_keep_the_names(training):
    layers = [nn.Conv2d(3, 4, 1), BranchNorm(BN, 4), nn.ReLU()]
    branch = randomize(Branch(*layers)).train(training)
    before, x = branch.state_dict(), unequal_samples(2, 3, 5, 5)
    expected = branch(x)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(branch)
    assert isinstance(synced[1], BranchNorm)
    assert isinstance(synced[1].norm, nn.SyncBatchNorm)
    after = revert_sync_batchnorm(synced)
    assert after.state_dict().keys() == before.keys()
    assert not isinstance(after[1].norm, nn.SyncBatchNorm)
    assert_equal(after.train(training)(x), expected)
