"""Colours for classes that have none."""

from collections.abc import Sequence
from colorsys import hsv_to_rgb


def complete_palette(meta: dict) -> dict:
    """Adds the colours that a palette lacks, on which drawing would fail.

    Args:
        meta: Of a data set, with ``classes`` and perhaps ``palette``.

    Returns:
        The same, with a palette as long as the classes if there was one.
    """
    classes, palette = meta.get('classes'), meta.get('palette')
    if (
        isinstance(palette, str | None)
        or not isinstance(classes, Sequence)
        or len(palette) >= len(classes)
    ):
        return meta
    # hues apart by the golden ratio
    more = [
        tuple(
            round(255 * part)
            for part in hsv_to_rgb(number * 0.618034 % 1, 0.8, 0.9)
        )
        for number in range(len(palette), len(classes))
    ]
    return dict(meta, palette=[*palette, *more])
