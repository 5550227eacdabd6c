"""Checks of MMPretrain's lists of images, ``path label`` on each line."""

from collections import Counter
from collections.abc import Iterator

from .common import Finding, check_images, read_text
from .datasets import Data


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
    missing = [name for name in classes or () if not data.kept[name]]
    if labelled and data.training and missing:
        yield (
            f'{file} has no image of {len(missing)} of the '
            f'{len(classes)} classes, as {missing[0]!r}'
        )
