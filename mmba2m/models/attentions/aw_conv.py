"""AW-convolution: attention to the weights of a convolution.

Paper: https://arxiv.org/abs/2108.08205 (ICANN 2021), without code; only its
abstract can be read freely: attention maps have the shape of the weights, not
of the activations. From summaries by others: ``AK = K + A ⊙ K``, where A comes
from average pooling and two pointwise convolutions with ReLU. Readings are the
size of the pooled map, the widths of the convolutions, how their output is
expanded to the weights, that no ReLU is behind the second, and the start. No
numbers of parameters are published.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmba2m.registry import MODELS


@MODELS.register_module()
class AWConv2d(nn.Conv2d):
    """A convolution whose kernel each sample adapts by attention.

    With a kernel K of shape (C2, C1 / groups, h, w), a sample I of C1
    channels, and ``A0 = AdaptiveAvgPool(I)`` of size h × w::

        A = PW2(ReLU(PW1(A0)))
        O = Conv(I, K + A ⊙ K)

    PW2 starts at 0, so the layer starts as the plain convolution K. K keeps
    the name ``weight``: checkpoints of a network with plain convolutions
    load, with only ``pointconv1`` and ``pointconv2`` missing.

    Two exact forms compute O, whichever keeps fewer values (at most about
    h · w maps of the output's size): on large maps, one grouped convolution
    with the kernels of all samples; on maps of fewer than C1 / groups
    positions, a 1×1 convolution for each entry of the kernel, shared by the
    samples and scaled for each. Counts of FLOPs see the plain convolution, PW1
    and PW2; of the second form with 'full', which convolves with K once more,
    neither that nor PW2.

    Args:
        in_channels: C1.
        out_channels: C2.
        kernel_size: (h, w).
        stride: Defaults to 1.
        padding: Defaults to 0.
        dilation: Defaults to 1.
        groups: Defaults to 1.
        bias: Whether a bias is added to O. Defaults to True.
        reduction: r; PW1 gives C1 / r channels. Defaults to 16.
        expand: How PW2's output becomes A. Defaults to 'in'.

            - 'in': PW2 gives C2 channels, and all input channels share them;
              C1² / r + C1 · C2 / r parameters in all.
            - 'full': PW2 gives a channel for each pair of output and input
              channel, in C1 / r groups; C1² / r + C1 · C2 / groups
              parameters in all.

    Raises:
        ValueError: If r does not divide C1, for 'full' C1 / r does not divide
            C2, ``expand`` is unknown, or ``padding`` is a string.
    """

    _abbr_ = 'aw_conv'
    positions = ('conv2', 'conv1', 'conv3')

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        reduction: int = 16,
        expand: str = 'in',
    ):
        if isinstance(padding, str):
            raise ValueError(
                f'padding of AWConv2d must be numbers, got {padding!r}'
            )
        conv_args = (kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, *conv_args, bias=bias)
        if expand not in ('in', 'full'):
            raise ValueError(
                f"expand of AWConv2d must be 'in' or 'full', got {expand!r}"
            )
        if reduction < 1 or in_channels % reduction:
            raise ValueError(
                f'reduction={reduction} of AWConv2d does not divide the '
                f'{in_channels} input channels'
            )
        mid_channels = in_channels // reduction
        if expand == 'full' and out_channels % mid_channels:
            raise ValueError(
                f"AWConv2d with expand='full' and reduction={reduction} has "
                f'{mid_channels} groups, which do not divide the '
                f'{out_channels} output channels; take a larger reduction'
            )
        self.expand = expand
        self.pool = nn.AdaptiveAvgPool2d(self.kernel_size)
        self.pointconv1 = nn.Conv2d(in_channels, mid_channels, 1, bias=False)
        maps, parts = out_channels, 1
        if expand == 'full':
            maps, parts = self.weight[..., 0, 0].numel(), mid_channels
        self.pointconv2 = nn.Conv2d(
            mid_channels, maps, 1, groups=parts, bias=False
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Lets the layer start as the plain convolution."""
        nn.init.zeros_(self.pointconv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C1, H, W) → (N, C2, H', W')."""
        hidden = self.pointconv1(self.pool(x)).relu()  # (N, C1/r, h, w)
        height, width = self._output_size(x)
        few = height * width < self.in_channels // self.groups
        form = self._convolve_entries if few else self._convolve_samples
        out = form(x, hidden)
        if self.bias is not None:
            out = out + self.bias.to(out.dtype)[:, None, None]
        return out

    def _convolve_samples(self, x, hidden):
        """A grouped convolution, with groups of its own for each sample."""
        maps = self.pointconv2(hidden).unflatten(1, (self.out_channels, -1))
        weight = self.weight.to(maps.dtype)
        kernels = torch.addcmul(weight, maps, weight)  # (N, C2, C1/g, h, w)
        groups = len(x) * self.groups
        cfg = (None, self.stride, self.padding, self.dilation, groups)
        out = F.conv2d(x.flatten(0, 1), kernels.flatten(0, 1), *cfg)
        return out.unflatten(0, (len(x), -1))

    def _convolve_entries(self, x, hidden):
        """A 1×1 convolution for each entry of the kernel.

        The attention map of 'full' is a product: A[n, c2, c1, i, j] =
        P[c2, c1] · hidden[n, group of c2, i, j], with the weights P of PW2.
        """
        weight = self.weight
        if self.expand == 'in':
            out = 0
            scales = 1 + self.pointconv2(hidden)
        else:
            out = self._conv_forward(x, weight, None)
            products = self.pointconv2.weight.view(*weight.shape[:2], 1, 1)
            weight = weight * products
            times = self.out_channels // hidden.size(1)
            scales = hidden.repeat_interleave(times, dim=1)
        weights = weight.permute(2, 3, 0, 1)[..., None, None].flatten(0, 1)
        scales = scales.flatten(2)[..., None, None].unbind(2)
        sides = (self._output_size(x), self.stride, self.dilation)
        rows, cols = (
            [slice(i * d, i * d + (n - 1) * s + 1, s) for i in range(k)]
            for k, n, s, d in zip(self.kernel_size, *sides, strict=True)
        )
        x = F.pad(x, [self.padding[i] for i in (1, 1, 0, 0)])
        for (row, col), entry, scale in zip(
            product(rows, cols), weights.unbind(), scales, strict=True
        ):
            part = F.conv2d(x[:, :, row, col], entry, groups=self.groups)
            out = out + scale * part
        return out

    def _output_size(self, x):
        sides = (self.padding, self.dilation, self.kernel_size, self.stride)
        return [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(x.shape[2:], *sides, strict=True)
        ]
