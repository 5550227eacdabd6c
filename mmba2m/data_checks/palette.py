"""Colours for classes that have none, on which drawing would fail."""

from colorsys import hsv_to_rgb

from .datasets import leaf_datasets, open_data


def complete_palettes(dataset: dict) -> None:
    """Adds the colours that palettes of a config, or of its types, lack."""
    for config, _ in leaf_datasets(dataset):
        data = open_data(config, None)
        meta = data.host.metainfo if data else {}
        palette = complete_palette(meta).get('palette')
        if palette != meta.get('palette'):
            own = config.get('metainfo') or {}
            config['metainfo'] = dict(own, palette=palette)


def complete_palette(meta: dict) -> dict:
    """Adds the colours that the palette of a data set lacks, if it has one."""
    classes, palette = meta.get('classes') or (), meta.get('palette')
    if not isinstance(palette, list) or len(palette) >= len(classes):
        return meta
    # hues apart by the golden ratio
    hues = [i * 0.618 % 1 for i in range(len(palette), len(classes))]
    more = [
        tuple(round(255 * part) for part in hsv_to_rgb(hue, 0.8, 0.9))
        for hue in hues
    ]
    return dict(meta, palette=palette + more)
