"""Checks of MMPretrain's data sets with a folder for each class."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from .common import Finding, guess
from .datasets import Data


def check_class_folders(
    data: Data, folder: Path, expected: Sequence[str] | None
) -> Iterator[Finding]:
    """Checks that the labels mean the same here as elsewhere.

    MMPretrain numbers the folders in their order, whatever the config calls
    its classes. Where none of these is a folder, they are a translation.
    """
    found, classes = list_folders(folder), data.classes or ()
    hidden = [name for name in found if name.startswith('.')]
    mine, theirs = ([*map(_fold, names)] for names in (classes, found))
    problem = ''
    if hidden:
        problem = (
            f'{str(folder)!r} has the hidden folder {hidden[0]!r}, which '
            f'MMPretrain takes for class {found.index(hidden[0])}; delete it'
        )
    elif expected and found != list(expected):
        problem = (
            f'{str(folder)!r} has other classes than the training set, so '
            f'their labels differ: {_difference(found, expected)}'
        )
    elif {*mine} & {*theirs} and mine != theirs:
        problem = (
            'the classes of the config are not the folders in '
            f'{str(folder)!r}, sorted, as labels are numbered: '
            f'{_difference(found, classes)}'
        )
    elif classes and len(classes) != len(found):
        problem = (
            f'{str(folder)!r} has {len(found)} folders, but the config '
            f'{len(classes)} classes'
        )
    if problem:
        raise ValueError(problem)
    # what lies in large folders is counted on demand only
    limit = sys.maxsize if data.thorough else 10_000 // len(found or [0]) + 1
    counts = Counter(dict.fromkeys(found, 0))
    for name in found:
        images = filter(data.host.is_valid_file, _walk(folder / name))
        counts[name] = sum(1 for _ in islice(images, limit))
    if max(counts.values(), default=0) < limit:
        data.listed = data.items = counts.total()
        data.kept = counts
    empty = [name for name in found if not counts[name]]
    if empty and data.training:
        yield (
            f'{str(folder)!r} has no images in {empty[0]!r}, which is class '
            f'{found.index(empty[0])} all the same'
        )


def list_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, as MMPretrain sorts them."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _walk(folder):
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path)
            else:
                yield entry.name


def _fold(name):
    return name.casefold().strip().replace('-', ' ').replace('_', ' ')


def _difference(found, expected):
    for kind, names, others in (
        ('has no', expected, found),
        ('has', found, expected),
    ):
        odd = [name for name in names if name not in others]
        if odd:
            return f'it {kind} {odd[0]!r}{guess(odd[0], others)}'
    return f'their order is {", ".join(found)}'
