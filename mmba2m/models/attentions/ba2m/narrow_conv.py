"""Convolutions of few channels, which oneDNN computes wastefully."""

import torch
from torch import nn

from .captured import is_captured

LANES = 16  # numbers of 32 bits in a vector of AVX-512


class NarrowConv2d(nn.Conv2d):
    """A convolution that is also fast on the CPU if it has few channels.

    In the plain layout, oneDNN's kernels compute on whole vectors of
    channels, of which a few are used. Elsewhere, and for channels enough, it
    is nn.Conv2d; so are arguments, parameters, shapes and values.
    """

    def forward(self, x):
        """Convolves (N, C_in, H, W)."""
        if is_captured() or x.device.type != 'cpu':
            return super().forward(x)
        if self.out_channels == 1 and self.kernel_size == (1, 1):
            weight = self.weight[0].to(x.dtype)
            return (x * weight).sum(1, keepdim=True) + self.bias.to(x.dtype)
        if max(self.in_channels, self.out_channels) < LANES:
            out = super().forward(
                x.contiguous(memory_format=torch.channels_last)
            )
            return out.contiguous()
        return super().forward(x)
