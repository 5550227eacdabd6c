"""AA: attention-augmented convolution.

Paper: https://arxiv.org/abs/1904.09925. Readings: a strided convolution,
whose attention gets its input through average pooling (which the paper uses
to save memory), and that each head has a value channel at least.
"""

import torch
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import check_map_size, take_map_size
from .conv_like import ConvLike
from .relative_attention import attend, relative_logits


@MODELS.register_module()
class AAConv2d(ConvLike):
    """A convolution beside attention over all positions.

    Of C2 output channels, the convolution gives C2 - dv and attention dv::

        y = concat(Conv(x), W_O · MHA(x))

    Each head attends with ``softmax(q · (k + r_row + r_col) / √d) v`` (Eqs. 3
    and 4). r_row and r_col are embeddings of how many rows and columns away
    the key is; all heads share them, and there are 2H - 1 and 2W - 1, so the
    module works on one size of the map only; ``relative=False`` has none.
    With stride, the attention's input is average-pooled over 3×3 positions.

    Time grows with the square of the positions, memory does not. The paper
    has it in stages 2 to 4, ``stages=(False, True, True, True)``.

    The convolution has fewer output channels than the one it replaces: a
    checkpoint with plain convolutions cannot fill this layer.

    Args:
        in_channels: C1.
        out_channels: C2.
        kernel_size: The convolution's.
        stride: s. Defaults to 1.
        padding: Defaults to 0.
        dilation: Defaults to 1.
        groups: The convolution's; must divide C2 - dv. Defaults to 1.
        bias: Whether the convolution and W_O have a bias. Defaults to True.
        kappa: dk = kappa · C2 channels for the keys, rounded down to a
            multiple of the heads, but at least 20 for each. Defaults to 0.2.
        upsilon: dv = upsilon · C2 channels for the values, rounded down to a
            multiple of the heads, but at least one for each. Defaults to 0.1.
        num_heads: Defaults to 8.
        relative: Whether there are embeddings of relative positions. Defaults
            to True.
        map_size: (H, W) of the output, needed with ``relative``. Defaults to
            None.

    Raises:
        ValueError: If ``map_size`` is missing, or in ``forward`` the map has
            another; if no channels are left for the convolution; for
            arguments out of range or a padding that does not keep the size.
    """

    _abbr_ = 'aa_conv'
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
        kappa: float = 0.2,
        upsilon: float = 0.1,
        num_heads: int = 8,
        relative: bool = True,
        map_size: int | tuple[int, int] | None = None,
    ):
        conv_args = (kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels, *conv_args)
        if kappa < 0 or upsilon < 0 or num_heads < 1:
            raise ValueError(
                'AAConv2d needs kappa and upsilon of at least 0 and num_heads '
                f'of at least 1, got kappa={kappa}, upsilon={upsilon} and '
                f'num_heads={num_heads}'
            )
        head_channels = max(int(kappa * out_channels) // num_heads, 20)
        self.num_heads = num_heads
        self.key_channels = head_channels * num_heads
        self.value_channels = num_heads * max(
            int(upsilon * out_channels) // num_heads, 1
        )
        conv_channels = out_channels - self.value_channels
        if conv_channels < 1 or conv_channels % groups:
            raise ValueError(
                f'{self.value_channels} of the {out_channels} channels of '
                f'AAConv2d are attention (upsilon={upsilon}, '
                f'num_heads={num_heads}); the {conv_channels} that are left '
                f'cannot be a convolution with groups={groups}'
            )
        self.map_size = None
        if relative:
            self.map_size = take_map_size(self, map_size, 'relative=False')
        self.conv = nn.Conv2d(
            in_channels, conv_channels, *conv_args, bias=bias
        )
        self.pool: nn.Module = nn.Identity()
        if self.stride != (1, 1):
            self.pool = nn.AvgPool2d(
                tuple(2 * s - 1 for s in self.stride),
                self.stride,
                tuple(s - 1 for s in self.stride),
                count_include_pad=False,
            )
        channels = 2 * self.key_channels + self.value_channels
        self.qkv = nn.Conv2d(in_channels, channels, 1, bias=False)
        values = self.value_channels
        self.proj = nn.Conv2d(values, values, 1, bias=bias)
        if self.map_size is not None:
            height, width = self.map_size
            self.row_embedding = _make_embedding(height, head_channels)
            self.col_embedding = _make_embedding(width, head_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C1, H, W) → (N, C2, ⌈H/s⌉, ⌈W/s⌉)."""
        convolved = self.conv(x)
        check_map_size(self, convolved)
        return torch.cat([convolved, self._attend(x)], dim=1)

    def _attend(self, x):
        """(N, C1, H, W) → (N, dv, ⌈H/s⌉, ⌈W/s⌉)."""
        maps = self.qkv(self.pool(x)).split(
            [self.key_channels, self.key_channels, self.value_channels], dim=1
        )
        q, k, v = (
            m.unflatten(1, (self.num_heads, -1)).permute(0, 1, 3, 4, 2)
            for m in maps
        )  # (N, heads, h, w, d)
        q = q * q.size(-1) ** -0.5
        logits = None
        if self.map_size is not None:
            rows = relative_logits(q.transpose(2, 3), self.row_embedding)
            cols = relative_logits(q, self.col_embedding)
            logits = rows.transpose(2, 3), cols
        out = attend(q, k, v, logits).permute(0, 1, 4, 2, 3).flatten(1, 2)
        return self.proj(out)

    def extra_repr(self) -> str:
        """Shows the arguments that submodules do not show."""
        return (
            f'{super().extra_repr()}, num_heads={self.num_heads}, '
            f'map_size={self.map_size}'
        )


def _make_embedding(length, channels):
    embedding = torch.randn(2 * length - 1, 1, channels)
    return nn.Parameter(embedding * channels**-0.5)
