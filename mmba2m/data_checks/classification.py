"""Checks of MMPretrain's data: a folder for each class, or one list."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from mmengine.fileio import list_dir_or_file

from .common import Finding, check_images, guess, read_text
from .datasets import Data


def check_class_folders(
    data: Data, folder: Path, expected: Sequence[str] | None
) -> None:
    """Refuses folders by which labels would mean other than elsewhere.

    MMPretrain numbers the folders in their order, whatever the config calls
    its classes. Where none of these is a folder, they are a translation.
    """
    found, classes = list_folders(folder), data.classes
    hidden = [name for name in found if name.startswith('.')]
    mine, theirs = ([*map(_fold, names)] for names in (classes, found))
    place, problem = repr(str(folder)), ''
    if hidden:
        problem = (
            f'{place} has the hidden folder {hidden[0]!r}, which MMPretrain '
            f'takes for class {found.index(hidden[0])}; delete it'
        )
    elif expected and found != list(expected):
        problem = (
            f'{place} has other classes than the training set, so their '
            f'labels differ: {_difference(found, expected)}'
        )
    elif {*mine} & {*theirs} and mine != theirs:
        problem = (
            f'the classes of the config are not the folders in {place}, '
            f'sorted, as labels are numbered: {_difference(found, classes)}'
        )
    elif classes and len(classes) != len(found):
        problem = (
            f'{place} has {len(found)} folders, but the config '
            f'{len(classes)} classes'
        )
    if problem:
        raise ValueError(problem)
    # large folders are listed on demand only
    limit = None if data.thorough else 10_000
    files = list_dir_or_file(folder, list_dir=False, recursive=True)
    images = [*islice(filter(data.host.is_valid_file, files), limit)]
    if len(images) == limit:
        return
    counts = Counter(Path(image).parts[0] for image in images)
    keys = zip(classes or found, found, strict=True)
    data.kept = Counter({key: counts[name] for key, name in keys})
    data.listed = data.items = data.kept.total()


def list_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, as MMPretrain sorts them."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


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


def check_image_list(data: Data, outputs: int | None) -> Iterator[Finding]:
    """Checks a list of images and labels, by classes or a head's outputs."""
    file, classes = data.name, data.classes
    folder = data.folder('img_path')
    lines = read_text(data.file).splitlines()
    labelled = data.host.with_label
    limit = len(classes) if classes else outputs
    paths, counts = [], Counter()
    for number, line in enumerate(lines, start=1):
        path, _, label = line.strip().rpartition(' ')
        if not labelled:
            path = line
        elif not path or not label.isdecimal():
            raise ValueError(
                f'line {number} of {file} is {line!r}, not a path and a label'
            )
        elif limit and int(label) >= limit:
            raise ValueError(
                f'line {number} of {file} has the label {label}, '
                f'but the {limit} classes are 0 to {limit - 1}'
            )
        paths.append(folder / path)
        counts[label] += labelled
    data.listed = data.items = len(lines)
    data.kept = Counter(
        {classes[int(k)] if classes else k: n for k, n in counts.items() if n}
    )
    if data.has_local_images:
        check_images(paths, data.file)
    missing = [name for name in classes if not data.kept[name]]
    if labelled and data.training and missing:
        yield (
            f'{file} has no image of {len(missing)} of the '
            f'{len(classes)} classes, as {missing[0]!r}'
        )
