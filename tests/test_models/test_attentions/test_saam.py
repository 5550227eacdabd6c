import pytest
import torch
from attention_checks import assert_equal, check_equation, unequal_samples
from mmengine.model import kaiming_init

from mmba2m.models.attentions import SAAM, SE

each_form = pytest.mark.parametrize('per_channel', [False, True])


def saam(module, x):
    w = module.score.weight[..., 0, 0]
    flat = x.flatten(2)  # (N, C, L)
    if module.per_channel:
        scores = flat * w
    else:
        scores = (flat * w.T).sum(1, keepdim=True)
    scores = torch.exp(scores + module.score.bias[:, None])
    weights = scores / scores.sum(2, keepdim=True)
    z = (flat * weights).sum(2)
    w1, w2 = (c.conv.weight[..., 0, 0] for c in (module.conv1, module.conv2))
    b1, b2 = module.conv1.conv.bias, module.conv2.conv.bias
    gate = torch.sigmoid((z @ w1.T + b1).clamp(min=0) @ w2.T + b2)
    return x * gate[..., None, None]


@each_form
def test_equals_the_equation(per_channel):
    check_equation(SAAM(8, reduction=2, per_channel=per_channel), saam)


@each_form
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


@each_form
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
