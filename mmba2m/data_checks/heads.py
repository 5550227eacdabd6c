"""Checks of a model's heads, and of a checkpoint, against its classes."""

from collections.abc import Iterator, Sequence

from .common import Finding

#: what counts something else than the classes of objects
OTHERS = ('rpn_head', 'semantic_head', 'panoptic_head', 'data_preprocessor')


def check_heads(model: dict, classes: Sequence[str]) -> Iterator[Finding]:
    """Tells heads that have more or fewer outputs than there are classes."""
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


def check_trained(
    meta: object, dataset: object, path: str, same_task: bool = True
) -> None:
    """Refuses data whose classes are not those that a network has learnt.

    Names of which none is the same are taken for those of a translation.

    Args:
        meta: The checkpoint's ``meta``.
        dataset: The data set, built.
        path: Of the checkpoint.
        same_task: Whether it goes on with these classes, or starts from
            others, which only may not stand in another order. Defaults to
            True.

    Raises:
        ValueError: If labels would mean other classes.
    """
    saved = meta.get('dataset_meta') if isinstance(meta, dict) else None
    learnt = _read_classes(saved)
    classes = _read_classes(getattr(dataset, 'metainfo', None))
    other_order = {*learnt} == {*classes}
    shared = same_task and {*learnt} & {*classes}
    if learnt and learnt != classes and (other_order or shared):
        raise ValueError(
            f'{path} has learnt the classes {", ".join(learnt)}, but those of '
            f'the data are {", ".join(classes)}, so labels would differ'
        )


def _read_classes(metainfo):
    metainfo = metainfo if isinstance(metainfo, dict) else {}
    lower = {str(key).lower(): value for key, value in metainfo.items()}
    classes = lower.get('classes')
    return [*map(str, classes)] if isinstance(classes, (list, tuple)) else []
