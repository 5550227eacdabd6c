import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_equal,
    count,
    count_network,
    randomize,
    unequal_samples,
)
from mmcv.cnn import ContextBlock
from mmengine.model import kaiming_init
from torch import nn

from mmba2m.models.attentions import GC


@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 4), (1, 1)])
def test_equals_the_equation(size, n):
    module = randomize(GC(8, ratio=1 / 2))
    x = unequal_samples(n, 8, *size)
    flat = x.flatten(2)  # (N, C, L)
    scores = (flat * module.conv_mask.weight[0, ..., 0]).sum(1).exp()
    z = torch.einsum('ncl,nl->nc', flat, scores / scores.sum(1, keepdim=True))
    fc1, norm, _, fc2 = module.channel_add_conv
    hidden = z @ fc1.weight[..., 0, 0].T + fc1.bias
    scale, shift = norm.weight.flatten(), norm.bias.flatten()
    hidden = F.layer_norm(hidden, (4,), scale, shift).clamp(min=0)
    added = hidden @ fc2.weight[..., 0, 0].T + fc2.bias
    assert_equal(module(x), x + added[..., None, None])


@pytest.mark.parametrize(
    'cfg',
    [
        dict(),
        dict(ratio=1 / 4, pooling_type='avg'),
        dict(fusion_types=('channel_mul', 'channel_add')),
    ],
)
def test_is_the_context_block_of_mmcv(cfg):
    module = randomize(GC(32, **cfg))
    other = ContextBlock(32, **{'ratio': 1 / 16, **cfg}).double()
    other.load_state_dict(module.state_dict())
    x = unequal_samples(3, 32, 5, 6)
    assert torch.equal(module(x), other(x))


def test_starts_as_the_identity():
    module = GC(32).double()
    x = unequal_samples(3, 32, 5, 6)
    for _ in range(2):
        assert torch.equal(module(x), x)
        for layer in module.modules():  # as a backbone does
            if isinstance(layer, nn.Conv2d):
                kaiming_init(layer)
        nn.init.ones_(module.channel_add_conv[1].bias)
        assert not torch.equal(module(x), x)
        module.init_weights()


def test_number_of_parameters():
    for c in (64, 256, 2048):
        m = c // 16
        assert count(GC(c)) == (c + 1) + 2 * c * m + m + c + 2 * m
    for depth, total in ((50, 28105032), (101, 49363481)):
        assert count_network(depth, lambda i, w: GC(w[-1])) == total

    def behind_first_stage(i, widths, **cfg):
        return GC(widths[-1], **cfg) if i else nn.Identity()

    assert count_network(50, behind_first_stage) == 28078773
    total = count_network(50, lambda *a: behind_first_stage(*a, ratio=1 / 4))
    assert total == 35557941


def test_all_parameters_learn():
    module = randomize(GC(8, ratio=1 / 2))
    module(unequal_samples(3, 8, 5, 6)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        if name == 'conv_mask.bias':  # added to all positions alike
            assert parameter.grad.abs().max() < 1e-10
        else:
            assert parameter.grad.abs().sum() > 1e-6, name


def test_autocast():
    module, x = GC(32).eval(), torch.randn(2, 32, 5, 6)
    kaiming_init(module.channel_add_conv[-1])
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    torch.testing.assert_close(result.float(), module(x), rtol=0.02, atol=0.05)


@pytest.mark.parametrize('ratio', [0, -1, 1 / 16])
def test_ratio_must_leave_a_channel(ratio):
    with pytest.raises(ValueError, match=f'ratio={ratio} leaves GC none of 8'):
        GC(8, ratio=ratio)
