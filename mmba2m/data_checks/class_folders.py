"""Checks of MMPretrain's data sets with a folder for each class."""

from difflib import get_close_matches


def check_class_folders(folder, classes, expected):
    """Checks that the labels mean the same here as elsewhere.

    MMPretrain numbers the folders in their order, whatever the config calls
    its classes: a misspelt folder, or classes in another order, shift labels.

    Args:
        folder (Path): With a folder for each class.
        classes (Sequence[str] | None): The classes of the config. Where none
            is the name of a folder, they are taken as names for display.
        expected (Sequence[str] | None): The folders of the training set.

    Raises:
        ValueError: If they do not agree.
    """
    found = list_folders(folder)
    if expected and found != list(expected):
        raise ValueError(
            f'{str(folder)!r} has other classes than the training set, so '
            f'their labels differ: {_difference(found, list(expected))}'
        )
    if classes and set(classes) & set(found) and found != list(classes):
        raise ValueError(
            f'the classes of the config are not the folders in '
            f'{str(folder)!r}, sorted, as labels are numbered: '
            f'{_difference(found, list(classes))}'
        )


def list_folders(folder):
    """The names of the folders in a folder, as MMPretrain sorts them."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _difference(found, expected):
    for kind, names, others in (
        ('has no', expected, found),
        ('has', found, expected),
    ):
        odd = [name for name in names if name not in others]
        if odd:
            close = get_close_matches(odd[0], others, 1)
            hint = f' (did you mean {close[0]!r}?)' if close else ''
            return f'it {kind} {odd[0]!r}{hint}'
    return f'their order is {", ".join(found)}'
