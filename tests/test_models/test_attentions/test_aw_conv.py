import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_equal,
    initialise_as_hosts_do,
    randomize,
    unequal_samples,
)
from torch import nn

from mmba2m.models.attentions import AWConv2d


def attend(layer, x):
    """A of one sample, from its definition."""
    c2, c1 = layer.weight.shape[:2]
    pooled = F.adaptive_avg_pool2d(x, layer.kernel_size)  # (C1, h, w)
    hidden = layer.pointconv1.weight[:, :, 0, 0] @ pooled.flatten(1)
    hidden = hidden.clamp(min=0)  # (C1/r, h·w)
    second = layer.pointconv2.weight[:, :, 0, 0]
    if layer.expand == 'in':
        return (second @ hidden).view(c2, 1, *layer.kernel_size)
    hidden = hidden.repeat_interleave(c2 // len(hidden), dim=0)
    return (second.view(c2, c1, 1) * hidden[:, None]).view_as(layer.weight)


def convolve(layer, x):
    """Sample by sample."""
    cfg = (layer.stride, layer.padding, layer.dilation, layer.groups)
    weights = [layer.weight * (1 + attend(layer, sample)) for sample in x]
    samples = zip(x.unsqueeze(1), weights, strict=True)
    return torch.cat([F.conv2d(*s, layer.bias, *cfg) for s in samples])


@pytest.mark.parametrize('expand', ['in', 'full'])
@pytest.mark.parametrize(
    'cfg',
    [
        dict(kernel_size=3, padding=1),
        dict(kernel_size=3, stride=2, padding=1, bias=False),
        dict(kernel_size=3, padding=2, dilation=2, groups=4),
        dict(kernel_size=1),
        dict(kernel_size=(5, 2), stride=(1, 3), padding=(4, 0), groups=2),
    ],
)
@pytest.mark.parametrize('size', [(2, 3), (9, 8)])
def test_equals_samples_by_themselves(size, cfg, expand):
    layer = randomize(AWConv2d(16, 8, **cfg, reduction=4, expand=expand))
    x = unequal_samples(3, 16, *size)
    assert_equal(layer(x), convolve(layer, x))
    assert_equal(layer(x[:1]), convolve(layer, x[:1]))


@pytest.mark.parametrize('expand', ['in', 'full'])
def test_both_forms_have_the_same_gradients(expand):
    layer = AWConv2d(32, 32, 3, padding=1, bias=False, expand=expand)
    randomize(layer)
    x = unequal_samples(2, 32, 4, 5).requires_grad_()
    target = torch.randn(2, 32, 4, 5, dtype=torch.float64)
    hidden = layer.pointconv1(layer.pool(x)).relu()
    inputs = [x, *layer.parameters()]
    gradients = [
        torch.autograd.grad(form(x, hidden), inputs, target, retain_graph=True)
        for form in (layer._convolve_entries, layer._convolve_samples)
    ]
    for one, other in zip(*gradients, strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('expand', ['in', 'full'])
@pytest.mark.parametrize('again', [False, True])
@pytest.mark.parametrize('size', [(6, 5), (3, 3)])
def test_starts_as_the_plain_convolution(size, again, expand):
    layer = AWConv2d(16, 16, 3, stride=2, padding=1, expand=expand).double()
    if again:
        initialise_as_hosts_do(layer)
        layer.init_weights()
    plain = nn.Conv2d(16, 16, 3, stride=2, padding=1).double()
    missing, unexpected = layer.load_state_dict(
        plain.state_dict(), strict=False
    )
    assert missing == ['pointconv1.weight', 'pointconv2.weight']
    assert not unexpected
    x = unequal_samples(3, 16, *size)
    assert_equal(layer(x), plain(x))
    layer(x).sum().backward()
    assert layer.pointconv2.weight.grad.abs().sum() > 0
