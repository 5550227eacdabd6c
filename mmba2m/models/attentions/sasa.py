"""SASA: stand-alone self-attention, in place of spatial convolutions.

Paper: https://arxiv.org/abs/1906.05909. Here it has the convolutional stem
(Sec. 3.2). Readings: what is beyond the border of the map (zeros), and how
the embeddings start.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import check_odd
from .conv_like import ConvLike
from .relative_attention import attend, relative_logits

BLOCK_SIZE = 8
"""Queries per side that share their keys; more would compute too much."""


@MODELS.register_module()
class SASA(ConvLike):
    """Attention of each position to the window around it.

    For a query q of a head with d channels, over the keys k and values v of
    the window_size × window_size positions around it (Eq. 3)::

        y_ij = Σ_ab softmax_ab(q_ij · k_ab + q_ij · r_(a-i,b-j)) v_ab

    r joins an embedding of the row, d/2 channels, and one of the column. Keys
    and values beyond the border are 0, as for a convolution. With stride,
    average pooling follows (Sec. 3.1). It has 3 · C1 · C2 + window_size · C2
    parameters, for which a checkpoint with plain convolutions has nothing.

    Blocks of up to 8 × 8 queries share a copy of the keys and values around
    them. That is about 3 copies of each key; a window for each query has 49.

    Args:
        in_channels: C1.
        out_channels: C2.
        kernel_size: Of the convolution that is replaced; only says, with
            ``padding``, that the size of the map is kept.
        stride: Defaults to 1.
        padding: Defaults to 0.
        dilation: Must be 1. Defaults to 1.
        groups: Must be 1. Defaults to 1.
        bias: Whether a bias is added to the output. Defaults to True.
        window_size: Positions per side. Defaults to 7.
        num_heads: Defaults to 8.

    Raises:
        ValueError: For a padding that does not keep the size, an even
            ``window_size``, ``out_channels`` that are no multiple of twice
            the heads, dilation or groups.
    """

    _abbr_ = 'sasa'
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
        window_size: int = 7,
        num_heads: int = 8,
    ):
        conv_args = (kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, *conv_args)
        if self.dilation != (1, 1) or groups != 1:
            raise ValueError(
                'SASA has neither dilation nor groups, got '
                f'dilation={dilation} and groups={groups}'
            )
        check_odd(self, window_size=window_size)
        if num_heads < 1 or out_channels % (2 * num_heads):
            raise ValueError(
                f'SASA with num_heads={num_heads} needs a multiple of '
                f'{2 * num_heads} channels, got {out_channels}'
            )
        self.window_size = window_size
        self.num_heads = num_heads
        head_channels = out_channels // num_heads
        self.qkv = nn.Conv2d(in_channels, 3 * out_channels, 1, bias=False)
        shape = window_size, num_heads, head_channels // 2
        std = head_channels**-0.5
        self.row_embedding = nn.Parameter(torch.randn(shape) * std)
        self.col_embedding = nn.Parameter(torch.randn(shape) * std)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.pool: nn.Module = nn.Identity()
        if self.stride != (1, 1):
            self.pool = nn.AvgPool2d(self.stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C1, H, W) → (N, C2, ⌈H/s⌉, ⌈W/s⌉)."""
        height, width = x.shape[-2:]
        blocks = [_divide(height), _divide(width)]
        halo = self.window_size // 2
        q, k, v = self.qkv(x).chunk(3, dim=1)
        q = self._to_blocks(q, blocks, 0)
        k = self._to_blocks(k, blocks, halo)
        v = self._to_blocks(v, blocks, halo)
        by_row, by_col = q.chunk(2, dim=-1)
        by_row = by_row.transpose(-3, -2)
        rows = relative_logits(by_row, self.row_embedding, halo)
        cols = relative_logits(by_col, self.col_embedding, halo)
        out = attend(q, k, v, (rows.transpose(-3, -2), cols))
        # (N, rows, columns, heads, h, w, d) → (N, C2, rows · h, columns · w)
        out = out.permute(0, 3, 6, 1, 4, 2, 5)
        out = out.flatten(5, 6).flatten(3, 4).flatten(1, 2)
        out = self.pool(out[..., :height, :width])
        if self.bias is not None:
            out = out + self.bias.to(out.dtype)[:, None, None]
        return out

    def _to_blocks(self, maps, blocks, halo):
        """(N, C, H, W) → (N, rows, columns, heads, h, w, d), no copy."""
        pads = [
            (halo, number * size - n + halo)
            for n, (number, size) in zip(maps.shape[-2:], blocks, strict=True)
        ]
        maps = F.pad(maps, (*pads[1], *pads[0]))
        for axis, (_, size) in enumerate(blocks, start=2):
            maps = maps.unfold(axis, size + 2 * halo, size)
        maps = maps.unflatten(1, (self.num_heads, -1))
        return maps.permute(0, 3, 4, 1, 5, 6, 2)

    def extra_repr(self) -> str:
        """Shows the arguments that submodules do not show."""
        return (
            f'{super().extra_repr()}, window_size={self.window_size}, '
            f'num_heads={self.num_heads}'
        )


def _divide(length):
    """Number and size of the fewest blocks, as equal as can be."""
    number = -(-length // BLOCK_SIZE)
    return number, -(-length // number)
