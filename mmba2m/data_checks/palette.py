"""Colours for classes that have none, on which drawing would fail."""

from .datasets import leaf_datasets, open_data


def complete_palettes(dataset: dict) -> None:
    """Replaces palettes of a config, or of its types, that are too short."""
    for config, _ in leaf_datasets(dataset):
        data = open_data(config, None)
        meta = data.host.metainfo if data else {}
        palette = complete_palette(meta).get('palette')
        if palette != meta.get('palette'):
            own = config.get('metainfo') or {}
            config['metainfo'] = dict(own, palette=palette)


def complete_palette(meta: dict) -> dict:
    """Lets the host choose colours if a data set has less than classes."""
    classes, palette = meta.get('classes') or (), meta.get('palette')
    short = isinstance(palette, list) and len(palette) < len(classes)
    return dict(meta, palette='random') if short else meta
