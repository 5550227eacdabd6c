"""What the checks of all formats share.

A check yields what it finds: an exception for an error, after which it may go
on, or a string for what is only odd. What it cannot go on after, it raises.
"""

import os
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

Finding = Exception | str
#: what is beyond is no pixel; COCO's metric passes over larger areas
LIMIT = 1e10


def read_text(path: Path) -> str:
    """Reads an annotation file, not an empty one, nor one with a BOM."""
    content = path.read_bytes()
    if not content or content.isspace():
        problem = 'is empty'
    elif content.startswith(BOM_UTF8):
        problem = (
            'starts with a byte order mark (BOM), on which its readers fail; '
            'save it as UTF-8 without BOM'
        )
    else:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            problem = f'is not UTF-8: {error}'
    raise ValueError(f'{str(path)!r} {problem}')


def is_number(value: object, limit: float = LIMIT) -> bool:
    """Whether a value is a finite number that may count pixels."""
    return isinstance(value, (int, float)) and -limit < value < limit


def check_names(
    classes: Sequence[str], names: Collection[str], file: Path
) -> None:
    """Refuses classes that the annotations do not have."""
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'class {missing[0]!r} is not in {str(file)!r}'
            f'{guess(missing[0], names)}, which has '
            f'{", ".join(sorted(filter(None, names)))}; {len(missing)} of the '
            f'{len(classes)} classes are missing'
        )


def guess(name: str, names: Iterable[str | None]) -> str:
    """Asks whether a similar name was meant, if there is one."""
    close = get_close_matches(name, filter(None, names), 1)
    return f' (did you mean {close[0]!r}?)' if close else ''


def check_images(paths: Sequence[Path], file: Path, note: str = '') -> None:
    """Refuses images that are not there, by listing their folders.

    The note is added where another file lies there that has the stem of one.
    """
    listing = cache(_listing)
    missing = [
        path
        for path in paths
        if path.name not in listing(path.parent) and not path.is_file()
    ]
    first = next(iter(missing), None)
    if first is None:
        return
    text = 'is a folder' if first.is_dir() else 'not found'
    for name in listing(first.parent):
        if Path(name).stem == first.stem:
            text = f'not found ({name!r} lies there{note})'
    raise FileNotFoundError(
        f'image {str(first)!r}, listed in {str(file)!r}, {text}; '
        f'{len(missing)} of {len(paths)} are missing'
    )


def _listing(folder):
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except OSError:
        return set()


def some(items: Sequence[str], total: int) -> str:
    """Says how many of how many, and which the first are."""
    dots = ', …' if len(items) > 3 else ''
    return f'{len(items)} of {total}: {", ".join(items[:3])}{dots}'
