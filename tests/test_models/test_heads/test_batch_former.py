import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmba2m.models.heads.batch_former import BatchFormer

close = torch.testing.assert_close


def make_former(**options):
    torch.manual_seed(0)
    former = BatchFormer(8, **{'dropout': 0.0, **options}).double()
    for parameter in former.parameters():  # biases and norms start trivial
        nn.init.normal_(parameter, std=0.5)
    return former


def make_samples(n):
    """Samples of unequal scale, and an upstream gradient."""
    torch.manual_seed(1)
    x = torch.randn(n, 8) * torch.linspace(0.5, 2, n)[:, None]
    return x.double(), torch.randn(n, 8).double()


def mix_literally(former, x, num_heads):
    """The layer, sample by sample and head by head."""
    p = dict(former.encoder.named_parameters())
    projected = x @ p['self_attn.in_proj_weight'].T
    q, k, v = (projected + p['self_attn.in_proj_bias']).chunk(3, 1)
    rows = []
    for i in range(len(x)):
        heads = []
        for c in torch.arange(x.size(1)).chunk(num_heads):
            logits = torch.stack([q[i, c] @ k[j, c] for j in range(len(x))])
            weights = (logits / math.sqrt(len(c))).exp()
            weights = weights / weights.sum()
            heads.append(sum(w * v[j, c] for j, w in enumerate(weights)))
        rows.append(torch.cat(heads))
    mixed = torch.stack(rows) @ p['self_attn.out_proj.weight'].T
    x = normalize(x + mixed + p['self_attn.out_proj.bias'], p, 'norm1')
    hidden = F.relu(x @ p['linear1.weight'].T + p['linear1.bias'])
    more = hidden @ p['linear2.weight'].T + p['linear2.bias']
    return normalize(x + more, p, 'norm2')


def normalize(x, p, name):
    centred = x - x.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    x = centred / (variance + 1e-5).sqrt()
    return x * p[f'{name}.weight'] + p[f'{name}.bias']


@pytest.mark.parametrize('n', [1, 2, 5])
@pytest.mark.parametrize('options', [{}, dict(num_heads=2)])
def test_it_is_a_layer_of_a_transformer_over_the_batch(n, options):
    former = make_former(**options)
    x, upstream = make_samples(n)
    parameters = [x.requires_grad_(), *former.parameters()]
    outs = former(x), mix_literally(former, x, options.get('num_heads', 4))
    close(*outs)
    grads = [torch.autograd.grad(y, parameters, upstream) for y in outs]
    close(*grads)
    assert torch.autograd.gradcheck(former, x)


def test_the_control_takes_each_sample_alone():
    former = make_former(mix=False)
    x, _ = make_samples(3)
    alone = [mix_literally(former, x[i : i + 1], 4) for i in range(3)]
    close(former(x), torch.cat(alone))
    assert former(x[:0]).shape == (0, 8)


def test_the_layer_is_the_papers_and_starts_as_pytorchs():
    former = BatchFormer(8)
    layer = former.encoder
    assert layer.self_attn.num_heads == 4
    assert layer.linear1.out_features == 8
    rates = [layer.self_attn.dropout]
    rates += [m.p for m in layer.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5] * 4
    narrow = BatchFormer(8, feedforward_channels=5).encoder
    assert narrow.linear2.weight.shape == (8, 5)
    for parameter in layer.parameters():
        parameter.data.fill_(7)
    torch.manual_seed(3)
    former.init_weights()
    torch.manual_seed(3)
    fresh = nn.TransformerEncoderLayer(8, 4, 8, 0.5)
    for key, value in fresh.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value)


def test_mixed_precision_and_no_samples():
    former = BatchFormer(8)
    x = torch.randn(4, 8, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        y = former(x.bfloat16())
    y.float().square().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert former(x[:0]).shape == (0, 8)


@pytest.mark.parametrize(
    ('channels', 'x', 'message'),
    [
        (6, None, 'num_heads=4 is no divisor of the 6 channels'),
        (8, torch.zeros(2, 8, 3, 3), r'got \(2, 8, 3, 3\): pool them'),
        (8, [torch.zeros(2, 8)], r'\(N, C\), got list'),
    ],
)
def test_what_does_not_fit_is_named(channels, x, message):
    with pytest.raises(ValueError, match=message) as caught:
        BatchFormer(channels)(x)
    assert '\n' not in str(caught.value)
