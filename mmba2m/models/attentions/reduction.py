"""The width of a module's bottleneck."""


def reduce_channels(module, channels, reduction):
    """Divides a number of channels, at least one of which stays.

    Args:
        module (nn.Module): Whose, for the error.
        channels (int): Channels C of the feature map.
        reduction (int): Reduction r.

    Returns:
        int: C // r.

    Raises:
        ValueError: Unless 0 < r <= C.
    """
    if not 0 < reduction <= channels:
        raise ValueError(
            f'{type(module).__name__} needs 0 < reduction <= channels, '
            f'got reduction={reduction} and {channels} channels'
        )
    return channels // reduction
