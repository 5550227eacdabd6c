"""What the checks of all formats share."""

import os
from codecs import BOM_UTF8
from difflib import get_close_matches
from functools import cache
from itertools import islice


def read_text(path):
    """Reads an annotation file, not an empty one, nor one with a BOM.

    Raises:
        ValueError: If the file is empty, is not UTF-8, or starts with a byte
            order mark.
    """
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f'{str(path)!r} is empty')
    if content.startswith(BOM_UTF8):
        raise ValueError(
            f'{str(path)!r} starts with a byte order mark (BOM), on which '
            'its readers fail; save it as UTF-8 without BOM'
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'{str(path)!r} is not UTF-8: {error}') from None


def check_names(classes, names, ann_file):
    """Refuses classes that the annotations do not have."""
    missing = [name for name in classes if name not in names]
    if missing:
        close = get_close_matches(missing[0], names, 1)
        hint = f' (did you mean {close[0]!r}?)' if close else ''
        raise ValueError(
            f'class {missing[0]!r} is not in {str(ann_file)!r}{hint}, which '
            f'has {", ".join(sorted(names))}; {len(missing)} of the '
            f'{len(classes)} classes are missing'
        )


def check_images(paths, ann_file):
    """Refuses images that are not there, by listing their folders."""
    listing = cache(_listing)
    missing = [
        path
        for path in paths
        if path.name not in listing(path.parent) and not path.exists()
    ]
    if missing:
        raise FileNotFoundError(
            f'image {str(missing[0])!r}, listed in {str(ann_file)!r}, not '
            f'found; {len(missing)} of {len(paths)} are missing'
        )


def _listing(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def some(items, total, limit=3):
    """Says how many of how many, and which the first are."""
    items = list(items)
    dots = ', …' if len(items) > limit else ''
    return f'{len(items)} of {total}: {", ".join(islice(items, limit))}{dots}'
