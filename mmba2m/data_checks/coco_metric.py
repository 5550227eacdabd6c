"""Checks of what COCO's metric reads, which a data set does not."""

from collections.abc import Iterator

from .common import Finding, is_id, some
from .datasets import Data


def check_metric(data: Data, boxes: dict, images: dict) -> Iterator[Finding]:
    """Tells annotations on which COCO's metric fails or is wrong."""
    if not data.coco_metrics:
        return
    problems = {
        "annotations without 'iscrowd': write 0": [
            f'annotation {key}'
            for key, box in boxes.items()
            if box.get('iscrowd') is None
        ],
        'ids of annotations that are no numbers': [
            repr(key) for key in boxes if not is_id(key)
        ],
    }
    for problem, found in problems.items():
        if found:
            yield ValueError(
                f'{data.name} has what the metric fails on, {problem}. They '
                f'are {some(found, len(boxes))}'
            )
    if len({isinstance(key, str) for key in images}) > 1:
        yield ValueError(
            f'{data.name} has what the metric fails on, numbers and text as '
            'ids of images'
        )
    if 0 in boxes:
        yield (
            f'{data.name} has an annotation of id 0, which the metric takes '
            'for none: found, it counts as wrong. Count from 1'
        )
