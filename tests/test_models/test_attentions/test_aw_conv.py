import pytest
import torch
import torch.nn.functional as F
from attention_checks import (
    assert_equal,
    randomize,
    unequal_samples,
)
from mmengine.model import kaiming_init
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
        maps = (second @ hidden).view(c2, 1, *layer.kernel_size)
    else:
        hidden = hidden.repeat_interleave(c2 // len(hidden), dim=0)
        maps = second.view(c2, c1, 1) * hidden[:, None]
        maps = maps.view_as(layer.weight)
    return maps.clamp(min=0) if layer.final_relu else maps


def convolve(layer, x):
    """Sample by sample."""
    return torch.cat(
        [
            F.conv2d(
                sample[None],
                layer.weight * (1 + attend(layer, sample)),
                layer.bias,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
            for sample in x
        ]
    )


@pytest.mark.parametrize('expand', ['in', 'full'])
@pytest.mark.parametrize('final_relu', [False, True])
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
def test_equals_samples_by_themselves(size, cfg, final_relu, expand):
    layer = AWConv2d(
        16, 8, **cfg, reduction=4, expand=expand, final_relu=final_relu
    )
    randomize(layer)
    x = unequal_samples(3, 16, *size)
    assert_equal(layer(x), convolve(layer, x))
    assert_equal(layer(x[:1]), convolve(layer, x[:1]))


@pytest.mark.parametrize('expand', ['in', 'full'])
@pytest.mark.parametrize('final_relu', [False, True])
def test_both_forms_have_the_same_gradients(final_relu, expand):
    layer = AWConv2d(
        32,
        32,
        3,
        padding=1,
        bias=False,
        expand=expand,
        final_relu=final_relu,
    )
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


@pytest.mark.parametrize(
    ('size', 'groups', 'form'),
    [
        ((4, 4), 1, '_convolve_samples'),
        ((3, 5), 1, '_convolve_entries'),
        ((3, 5), 2, '_convolve_samples'),
        ((2, 3), 2, '_convolve_entries'),
    ],
)
def test_the_smaller_form_is_taken(size, groups, form, monkeypatch):
    layer = AWConv2d(16, 16, 3, padding=1, groups=groups)
    other = ({'_convolve_samples', '_convolve_entries'} - {form}).pop()
    monkeypatch.delattr(AWConv2d, other)
    assert layer(torch.randn(2, 16, *size)).shape == (2, 16, *size)


@pytest.mark.parametrize('expand', ['in', 'full'])
@pytest.mark.parametrize('again', [False, True])
@pytest.mark.parametrize('size', [(6, 5), (3, 3)])
def test_starts_as_the_plain_convolution(size, again, expand):
    layer = AWConv2d(16, 16, 3, stride=2, padding=1, expand=expand).double()
    if again:
        for conv in (layer, layer.pointconv1, layer.pointconv2):
            kaiming_init(conv)  # as the hosts do
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


@pytest.mark.parametrize('expand', ['in', 'full'])
def test_with_a_final_relu_it_starts_close_and_learns(expand):
    layer = AWConv2d(64, 64, 3, padding=1, expand=expand, final_relu=True)
    kaiming_init(layer.pointconv2)
    layer.init_weights()
    x = torch.randn(2, 64, 8, 8)
    plain = F.conv2d(x, layer.weight, layer.bias, padding=1)
    assert not torch.equal(layer(x), plain)
    torch.testing.assert_close(layer(x), plain, rtol=0.05, atol=0.05)
    layer(x).sum().backward()
    assert layer.pointconv1.weight.grad.abs().sum() > 0
