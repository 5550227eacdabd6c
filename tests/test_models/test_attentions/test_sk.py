import pytest
import torch.nn.functional as F
from attention_checks import (
    assert_equal,
    check_equation,
    norm,
    randomize,
    unequal_samples,
)
from torch import nn

from mmba2m.models.attentions import SK


def sk(module, features):
    x, u1 = features
    conv = module.conv[0]
    u2 = F.conv2d(
        x, conv.weight, None, conv.stride, conv.dilation, conv.dilation, 4
    )
    u2 = norm(module.conv[1], u2).clamp(min=0)
    pooled = (u1 + u2).mean((2, 3), keepdim=True)
    d = F.conv2d(pooled, module.select[0].weight)
    d = norm(module.select[1], d).clamp(min=0)
    first, second = F.conv2d(d, module.select[3].weight).exp().chunk(2, dim=1)
    return (first * u1 + second * u2) / (first + second)


@pytest.mark.parametrize(('stride', 'dilation'), [(1, 1), (2, 1), (1, 2)])
def test_equals_the_equation(stride, dilation):
    cfg = dict(stride=stride, padding=dilation, dilation=dilation)
    convs = [nn.Conv2d(32, 8, 1), nn.Conv2d(8, 8, 3, **cfg).double()]
    module = SK.from_convs(convs, groups=4, reduction=2)
    assert module.conv[0].stride == (stride, stride)
    assert module.conv[0].dilation == (dilation, dilation)

    def make(n, size):
        x = unequal_samples(n, 8, *size).relu()
        return [x, convs[1](x).relu()]

    check_equation(module, sk, sizes=((7, 6), (1, 1)), make=make)


def test_weights_sum_to_one():
    module = randomize(SK(8, 8, groups=4, reduction=2)).eval()
    x = unequal_samples(3, 8, 5, 5)
    u2 = module.conv(x)
    assert_equal(module([x, u2]), u2)
