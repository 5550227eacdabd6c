"""What a layer needs to stand in for a convolution."""

from mmengine.utils import to_2tuple
from torch import nn


class ConvLike(nn.Module):
    """A layer in the place of a convolution that keeps the size of its map.

    Of a map (H, W) with stride s, (⌈H/s⌉, ⌈W/s⌉) is left. The arguments are
    those of nn.Conv2d.

    Raises:
        ValueError: If ``padding`` does not keep the size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int],
        padding: int | tuple[int, int],
        dilation: int | tuple[int, int],
        groups: int,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = to_2tuple(kernel_size)
        self.stride = to_2tuple(stride)
        self.padding = to_2tuple(padding)
        self.dilation = to_2tuple(dilation)
        self.groups = groups
        kept = tuple(
            d * (k - 1) / 2
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        )
        if self.padding != kept:
            raise ValueError(
                f'{type(self).__name__} keeps the size of the map, so with '
                f'kernel_size={kernel_size} and dilation={dilation} it needs '
                f'padding={kept}, got {padding}'
            )

    def extra_repr(self) -> str:
        """Shows the arguments that submodules do not show."""
        return f'{self.in_channels}, {self.out_channels}, stride={self.stride}'
