"""Arguments that several modules have in common."""

from typing import Any

from mmengine.utils import to_2tuple
from torch import Tensor, nn


def reduce_channels(
    module: nn.Module, channels: int, reduction: int, name: str = 'in_channels'
) -> int:
    """Divides a number of channels: C // r.

    Raises:
        ValueError: Unless 0 < r <= C; it names the module and C's argument.
    """
    if not 0 < reduction <= channels:
        raise ValueError(
            f'{type(module).__name__} needs 0 < reduction <= {name}, '
            f'got reduction={reduction} and {name}={channels}'
        )
    return channels // reduction


def get_width(layer: Any) -> int:
    """Returns the channels that a convolution or linear layer puts out."""
    return getattr(layer, 'out_channels', None) or layer.out_features


def check_odd(module: nn.Module, **sizes: int) -> None:
    """Refuses sizes that are not odd and positive, with a ValueError."""
    for name, size in sizes.items():
        if size < 1 or size % 2 == 0:
            raise ValueError(
                f'{name} of {type(module).__name__} must be odd and '
                f'positive, got {size}'
            )


def take_map_size(
    module: nn.Module, map_size: int | tuple[int, int] | None, instead: str
) -> tuple[int, int]:
    """Returns (H, W) of a module that works on maps of one size only.

    Raises:
        ValueError: If it is missing; ``instead`` is what to take then.
    """
    if map_size is None:
        raise ValueError(
            f'{type(module).__name__} has weights for maps of one size, and '
            "needs map_size. In a backbone, its entry of 'attention' has one "
            'for each stage, as map_size=(56, 28, 14, 7) for images of '
            f'224×224; for images of any size, take {instead}'
        )
    return to_2tuple(map_size)


def check_map_size(module: nn.Module, maps: Tensor) -> None:
    """Refuses maps (..., H, W) of another size, with a ValueError."""
    size = tuple(maps.shape[-2:])
    if module.map_size not in (None, size):
        raise ValueError(
            f'{type(module).__name__} was built for a map of '
            f'{module.map_size}, got {size}'
        )
