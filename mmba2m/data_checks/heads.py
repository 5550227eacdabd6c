"""Checks of a model's heads against the classes of its data."""

from collections.abc import Iterator, Sequence

from .common import Finding

#: what counts something else than the classes of objects
OTHERS = ('rpn_head', 'semantic_head', 'panoptic_head', 'data_preprocessor')


def check_heads(model: dict, classes: Sequence[str]) -> Iterator[Finding]:
    """Tells heads that have more or fewer outputs than there are classes.

    Args:
        model: Config of the model.
        classes: Names of the classes of its data.
    """
    for path, number in find_heads(model):
        if number != len(classes):
            names = ', '.join(classes[:5]) + ', …' * (len(classes) > 5)
            yield ValueError(
                f'{path}.num_classes is {number}, but the data have '
                f'{len(classes)} classes: {names}'
            )


def find_heads(
    model: object, path: str = 'model'
) -> Iterator[tuple[str, int]]:
    """Yields where a model has a number of classes, and which."""
    if isinstance(model, (list, tuple)):
        for index, child in enumerate(model):
            yield from find_heads(child, f'{path}.{index}')
    elif isinstance(model, dict):
        if 'num_classes' in model and 'head' in path:
            yield path, model['num_classes']
        for key, child in model.items():
            if key not in OTHERS:
                yield from find_heads(child, f'{path}.{key}')
