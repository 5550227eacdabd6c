"""Checks of MMPretrain's lists of images, ``path label`` on each line."""

from .common import check_images, read_text


def check_image_list(ann_file, folder, classes, dataset):
    """Checks a list of images and their labels.

    Args:
        ann_file (Path): The list.
        folder (Path): Of the images.
        classes (Sequence[str] | None): Names of the classes.
        dataset (dict): Config of the data set.

    Returns:
        list[str]: Nothing, so far.
    """
    lines = read_text(ann_file).splitlines()
    if not dataset.get('with_label', True):
        check_images([folder / line for line in lines], ann_file)
        return []
    paths = []
    for number, line in enumerate(lines, start=1):
        path, _, label = line.strip().rpartition(' ')
        if not path or not label.isdecimal():
            raise ValueError(
                f'line {number} of {str(ann_file)!r} is {line!r}, not a path '
                'and a label'
            )
        if classes and int(label) >= len(classes):
            raise ValueError(
                f'line {number} of {str(ann_file)!r} has the label {label}, '
                f'but the {len(classes)} classes are 0 to {len(classes) - 1}'
            )
        paths.append(folder / path)
    check_images(paths, ann_file)
    return []
