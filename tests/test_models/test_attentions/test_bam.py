import pytest
import torch
import torch.nn.functional as F
from attention_checks import check_equation, check_norm_is_an_option, norm

from mmba2m.models.attentions import BAM


def bam(module, x):
    fc1, norm1, _, fc2 = list(module.channel)[1:]
    channel = F.conv2d(x.mean((2, 3), keepdim=True), fc1.weight, fc1.bias)
    channel = norm(norm1, channel).clamp(min=0)
    channel = F.conv2d(channel, fc2.weight, fc2.bias)
    dilation = module.spatial[3].dilation[0]
    maps = x
    for i, pad in ((0, 0), (3, dilation), (6, dilation)):
        conv = module.spatial[i]
        maps = F.conv2d(
            maps, conv.weight, conv.bias, padding=pad, dilation=max(pad, 1)
        )
        maps = norm(module.spatial[i + 1], maps).clamp(min=0)
    maps = F.conv2d(maps, module.spatial[9].weight, module.spatial[9].bias)
    return x * (1 + torch.sigmoid(channel * maps))


@pytest.mark.parametrize('dilation', [4, 2])
def test_equals_the_equation(dilation):
    module = BAM(8, reduction=2, dilation=dilation)
    assert module.spatial[6].dilation == (dilation, dilation)
    check_equation(module, bam, sizes=((9, 6), (1, 1)))


def test_norm_is_an_option():
    check_norm_is_an_option(BAM, reduction=2)
