import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_all_parameters_learn,
    assert_equal,
    count,
    norm,
    randomize,
    unequal_samples,
)

from mmba2m.models.attentions import BAM, FEATURE_MAP_POSITIONS


def bam(module, x, dilation):
    fc1, norm1, _, fc2 = list(module.channel)[1:]
    channel = F.conv2d(x.mean((2, 3), keepdim=True), fc1.weight, fc1.bias)
    channel = norm(norm1, channel).clamp(min=0)
    channel = F.conv2d(channel, fc2.weight, fc2.bias)
    maps = x
    for i, pad in ((0, 0), (3, dilation), (6, dilation)):
        conv = module.spatial[i]
        maps = F.conv2d(
            maps, conv.weight, conv.bias, padding=pad, dilation=max(pad, 1)
        )
        maps = norm(module.spatial[i + 1], maps).clamp(min=0)
    maps = F.conv2d(maps, module.spatial[9].weight, module.spatial[9].bias)
    return x * (1 + torch.sigmoid(channel * maps))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(9, 6), (1, 1)])
@pytest.mark.parametrize('dilation', [4, 2])
def test_equals_the_equation(dilation, size, n, training):
    module = randomize(BAM(8, reduction=2, dilation=dilation)).train(training)
    x = unequal_samples(n, 8, *size)
    assert_equal(module(x), bam(module, x, dilation))


def test_number_of_parameters():
    total = 0
    for c in (256, 512, 1024):
        m = c // 16
        module = BAM(c)
        assert count(module) == 3 * c * m + 18 * m**2 + 13 * m + c + 1
        total += count(module)
    assert total == 25915099 - 25557032 == 44907227 - 44549160


def test_all_parameters_learn():
    module = randomize(BAM(8, reduction=2))
    assert_all_parameters_learn(module, unequal_samples(3, 8, 9, 6))


def test_norm_is_an_option():
    module = BAM(8, reduction=2, norm_cfg=dict(type='GN', num_groups=1))
    x = torch.randn(1, 8, 3, 3)
    assert torch.equal(module.train()(x), module.eval()(x))
    bare = BAM(8, reduction=2, norm_cfg=None)
    assert count(module) - count(bare) == 4 * 2 * 4


def test_autocast():
    module = BAM(8, reduction=2).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x)
    torch.testing.assert_close(result, module(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('reduction', [0, -1, 9])
def test_reduction_out_of_range(reduction):
    with pytest.raises(ValueError, match=f'BAM.*reduction={reduction} and 8'):
        BAM(8, reduction=reduction)


def test_sits_behind_stages_by_default():
    assert BAM.positions[0] == 'after_stage'
    assert sorted(BAM.positions) == sorted(FEATURE_MAP_POSITIONS)
