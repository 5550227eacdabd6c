"""The width of a module's bottleneck."""

from torch import nn


def reduce_channels(module: nn.Module, channels: int, reduction: int) -> int:
    """Divides a number of channels, at least one of which stays.

    Args:
        module: Whose, for the error.
        channels: Channels C of the feature map.
        reduction: Reduction r.

    Returns:
        C // r.

    Raises:
        ValueError: Unless 0 < r <= C.
    """
    if not 0 < reduction <= channels:
        raise ValueError(
            f'{type(module).__name__} needs 0 < reduction <= channels, '
            f'got reduction={reduction} and {channels} channels'
        )
    return channels // reduction
