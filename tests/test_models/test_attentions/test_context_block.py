import pytest
import torch
import torch.nn.functional as F
from attention_checks import check_equation, randomize, unequal_samples
from mmcv.cnn import ContextBlock
from mmengine.model import kaiming_init
from torch import nn

from mmba2m.models.attentions import GC


def gc(module, x):
    flat = x.flatten(2)  # (N, C, L)
    scores = (flat * module.conv_mask.weight[0, ..., 0]).sum(1).exp()
    z = torch.einsum('ncl,nl->nc', flat, scores / scores.sum(1, keepdim=True))
    fc1, norm, _, fc2 = module.channel_add_conv
    hidden = z @ fc1.weight[..., 0, 0].T + fc1.bias
    scale, shift = norm.weight.flatten(), norm.bias.flatten()
    hidden = F.layer_norm(hidden, (4,), scale, shift).clamp(min=0)
    added = hidden @ fc2.weight[..., 0, 0].T + fc2.bias
    return x + added[..., None, None]


def test_equals_the_equation():
    check_equation(GC(8, ratio=1 / 2), gc)


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
