import pytest
import torch
from attention_checks import (
    assert_equal,
    count,
    count_network,
    randomize,
    unequal_samples,
)
from mmengine.model import kaiming_init

from mmba2m.models.attentions import SAAM, SE


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 4), (1, 1)])
def test_equals_the_equation(size, n, per_channel):
    module = randomize(SAAM(8, reduction=2, per_channel=per_channel))
    x = unequal_samples(n, 8, *size)
    w = module.score.weight[..., 0, 0]
    flat = x.flatten(2)  # (N, C, L)
    scores = flat * w if per_channel else (flat * w.T).sum(1, keepdim=True)
    scores = torch.exp(scores + module.score.bias[:, None])
    weights = scores / scores.sum(2, keepdim=True)
    z = (flat * weights).sum(2)
    w1, w2 = (c.conv.weight[..., 0, 0] for c in (module.conv1, module.conv2))
    b1, b2 = module.conv1.conv.bias, module.conv2.conv.bias
    gate = torch.sigmoid((z @ w1.T + b1).clamp(min=0) @ w2.T + b2)
    assert_equal(module(x), x * gate[..., None, None])


@pytest.mark.parametrize('per_channel', [False, True])
def test_starts_as_se(per_channel):
    module = SAAM(8, reduction=2, per_channel=per_channel).double()
    se = SE(8, reduction=2).double()
    x = unequal_samples(3, 8, 5, 6)
    for _ in range(2):
        se.load_state_dict(module.state_dict(), strict=False)
        assert_equal(module(x), se(x))
        kaiming_init(module.score)  # as a backbone does
        assert not torch.allclose(module(x), se(x))
        module.init_weights()


@pytest.mark.parametrize('per_channel', [False, True])
def test_steep_scores_pick_a_pixel(per_channel):
    module = SAAM(2, reduction=1, per_channel=per_channel).double()
    x = unequal_samples(3, 2, 5, 6)
    with torch.no_grad():
        module.score.weight.view(-1)[0] = 1e9  # by the first channel
    flat = x.flatten(2)
    best = flat[:, 0].argmax(1)
    picked = flat[torch.arange(3), :, best]
    if per_channel:  # the second one is averaged
        picked[:, 1] = flat[:, 1].mean(1)
    assert_equal(module.squeeze(x)[..., 0, 0], picked)


def test_number_of_parameters():
    for c in (64, 256, 2048):
        fcs = 2 * c**2 // 16 + c // 16 + c
        assert count(SAAM(c)) == (c + 1) + fcs
        assert count(SAAM(c, per_channel=True)) == 2 * c + fcs
    for depth, total in ((50, 28103144), (101, 49359417)):
        assert count_network(depth, lambda i, w: SAAM(w[-1])) == total


@pytest.mark.parametrize('per_channel', [False, True])
def test_all_parameters_learn(per_channel):
    module = SAAM(8, reduction=1, per_channel=per_channel).double()
    module(unequal_samples(3, 8, 5, 6)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        if name == 'score.bias':  # added to all pixels alike
            assert parameter.grad.abs().max() < 1e-10
        else:
            assert parameter.grad.abs().sum() > 1e-6, name


@pytest.mark.parametrize('per_channel', [False, True])
def test_autocast(per_channel):
    module = SAAM(8, reduction=2, per_channel=per_channel)
    kaiming_init(module.score)
    x = torch.randn(2, 8, 5, 6)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), module(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('reduction', [0, 9])
def test_reduction_out_of_range(reduction):
    with pytest.raises(ValueError, match=f'SAAM.*reduction={reduction} and 8'):
        SAAM(8, reduction=reduction)
