import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_equal,
    count,
    count_network,
    norm,
    randomize,
    unequal_samples,
)
from torch import nn

from mmba2m.models.attentions import SK


def make_convs(stride=1, dilation=1):
    return [
        nn.Conv2d(32, 8, 1),
        nn.Conv2d(8, 8, 3, stride=stride, padding=dilation, dilation=dilation),
    ]


def make_features(convs, n=3, size=(7, 6)):
    x = unequal_samples(n, 8, *size).relu()
    return [x, convs[1].double()(x).relu()]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 6), (1, 1)])
@pytest.mark.parametrize(('stride', 'dilation'), [(1, 1), (2, 1), (1, 2)])
def test_equals_the_equation(stride, dilation, size, n, training):
    convs = make_convs(stride, dilation)
    module = SK.from_convs(convs, groups=4, reduction=2)
    randomize(module).train(training)
    x, u1 = make_features(convs, n, size)
    weight = module.conv[0].weight
    u2 = F.conv2d(x, weight, None, stride, dilation, dilation, groups=4)
    u2 = norm(module.conv[1], u2).clamp(min=0)
    pooled = (u1 + u2).mean((2, 3), keepdim=True)
    d = F.conv2d(pooled, module.select[0].weight)
    d = norm(module.select[1], d).clamp(min=0)
    first, second = F.conv2d(d, module.select[3].weight).exp().chunk(2, dim=1)
    expected = (first * u1 + second * u2) / (first + second)
    assert_equal(module([x, u1]), expected)


def test_number_of_parameters():
    def build(i, widths):
        w = widths[1]
        module = SK(w, w)
        added = 9 * w**2 / 32 + 2 * w + 3 * w**2 / 16 + 2 * w / 16
        assert count(module) == added
        return module

    assert count_network(50, build) == 26154496
    assert count_network(101, build) == 45678112


def test_all_parameters_learn():
    convs = make_convs()
    module = randomize(SK.from_convs(convs, groups=4, reduction=2)).eval()
    x, u1 = make_features(convs)
    x.requires_grad_()
    module([x, u1.detach()]).square().sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.abs().sum() > 0


def test_autocast():
    module = SK(8, 8, groups=4, reduction=2).eval()
    features = [torch.randn(2, 8, 6, 6) for _ in range(2)]
    with torch.autocast('cpu', torch.bfloat16):
        result = module(features)
    torch.testing.assert_close(result, module(features), rtol=0.02, atol=0.02)


def test_basic_blocks_are_refused():
    convs = [nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3)]
    with pytest.raises(ValueError, match=r'SK.*bottleneck.*basic block'):
        SK.from_convs(convs)


@pytest.mark.parametrize(
    ('channels', 'groups'), [((64, 48), 32), ((48, 64), 32), ((64, 64), 0)]
)
def test_groups_must_divide(channels, groups):
    message = f'groups={groups} of SK.* {channels[0]} .* {channels[1]} '
    with pytest.raises(ValueError, match=message):
        SK(*channels, groups=groups)


def test_reduction_out_of_range():
    with pytest.raises(ValueError, match=r'SK.*reduction=65 and 64'):
        SK(64, 64, reduction=65)


def test_weights_sum_to_one():
    module = randomize(SK(8, 8, groups=4, reduction=2)).eval()
    x = unequal_samples(3, 8, 5, 5)
    u2 = module.conv(x)
    assert_equal(module([x, u2]), u2)
