import pytest
import torch
from torch import nn

from mmba2m.models.attentions.ba2m.narrow_conv import NarrowConv2d


@pytest.mark.parametrize(
    'shape', [(4, 4, 3), (15, 3, 3), (16, 20, 3), (7, 1, 1), (20, 1, 1)]
)
@pytest.mark.parametrize(
    'memory_format', [torch.contiguous_format, torch.channels_last]
)
def test_is_a_convolution(shape, memory_format):
    in_channels, out_channels, kernel_size = shape
    conv = NarrowConv2d(*shape, padding=kernel_size // 2).double()
    x = torch.randn(3, in_channels, 6, 5, dtype=torch.float64)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    out = conv(x)
    expected = nn.Conv2d.forward(conv, x)
    upstream = torch.randn_like(expected)

    assert out.shape == (3, out_channels, 6, 5)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    inputs = [x, *conv.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(out, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize('shape', [(4, 4, 3), (7, 1, 1)])
def test_follows_the_precision_of_its_input(shape):
    conv = NarrowConv2d(*shape)
    x = torch.randn(2, shape[0], 6, 6)
    with torch.autocast('cpu', torch.bfloat16):
        out = conv(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), conv(x), rtol=0.05, atol=0.05)
