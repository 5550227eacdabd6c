"""What is refused, and what is warned of."""

import warnings

import pytest
import torch
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(in_channels=8), r'reduction=16 and in_channels=8'),
        (dict(in_channels=8, reduction=0), 'reduction=0 and in_channels=8'),
        (dict(in_channels=8, reduction=-4), 'reduction=-4'),
        (dict(in_channels=64, branches=()), r'branches .*\(\)'),
        (dict(in_channels=64, branches=('local', 'lobal')), "'lobal'"),
        (dict(in_channels=64, branches='channel'), "'channel'"),
        (dict(in_channels=64, inference='mean'), "'mean'"),
        (dict(in_channels=64, num_heads=3), 'num_heads=3 .* 2 '),
        (dict(in_channels=64, num_heads=0), 'num_heads=0'),
        (dict(in_channels=64, max_kv_size=0), 'max_kv_size .* 0'),
        (
            dict(in_channels=64, norm_cfg=dict(type='GN', num_groups=32)),
            'num_groups.* 4 pooled channels',
        ),
        (dict(in_channels=64, norm_cfg=dict(type='IN')), "'IN'"),
        (dict(in_channels=64, norm_cfg=None, zero_init=True), 'Identity'),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BA2M(**kwargs)


@pytest.mark.parametrize(
    'shape', [(2, 8, 4), (2, 8, 4, 4, 4), (2, 6, 4, 4), (8, 4, 4)]
)
def test_wrong_inputs_are_named(shape):
    with pytest.raises(ValueError) as error:
        BA2M(8, 2)(torch.randn(shape))
    assert '(N, 8, H, W)' in str(error.value)
    assert str(shape) in str(error.value)


def warnings_of(module, *inputs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for x in inputs:
            module(x)
    return [str(w.message) for w in caught if 'BA2M' in str(w.message)]


def freeze_norms(module):
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    return module


def test_weak_starts_are_warned_of_once():
    few, many = torch.randn(2, 8, 5, 5), torch.randn(4, 8, 5, 5)
    for module, x, text in (
        (freeze_norms(BA2M(8, 2)), many, 'frozen'),
        (BA2M(8, 2), few, 'N = 2'),
    ):
        (message,) = warnings_of(module, x[:0], x, x)
        assert text in message and 'norm_cfg' in message


def test_good_starts_are_not_warned_of():
    few, many = torch.randn(2, 8, 5, 5), torch.randn(4, 8, 5, 5)
    gn = dict(type='GN', num_groups=1)
    trained = BA2M(8, 2)
    assert not warnings_of(trained, many, many)
    loaded = BA2M(8, 2)
    loaded.load_state_dict(trained.state_dict())
    for module in (
        freeze_norms(loaded),
        BA2M(8, 2, branches=('local', 'global')),
        BA2M(8, 2).eval(),
        BA2M(8, 2, norm_cfg=gn),
        freeze_norms(BA2M(8, 2, norm_cfg=gn)),
    ):
        assert not warnings_of(module, few)
