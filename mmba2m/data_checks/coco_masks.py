"""Checks of the masks in COCO's format, where masks are wanted."""

import math
from collections.abc import Iterator

from .coco_boxes import is_kept, name_box
from .common import Finding, some
from .datasets import Data


def check_masks(
    data: Data, boxes: dict, images: dict, categories: dict
) -> Iterator[Finding]:
    """Tells masks that the pipeline or the metric cannot read."""
    loads = any(step.get('with_mask') for step in data.steps)
    scores = data.scores('segm')
    if not loads and not scores:
        return
    passed_over, total = [], 0
    for box in boxes.values():
        image = images.get(box['image_id'])
        kept = not box.get('ignore') and image and is_kept(box, image)
        if image is None or not (kept or scores):
            continue
        if categories[box['category_id']]['name'] not in data.classes:
            continue
        total += 1
        problem, skipped = _find_problem(box.get('segmentation'), image)
        if problem and (scores or not skipped):
            raise ValueError(
                f'{data.name}: {name_box(box, image)} has {problem}, and the '
                'config wants masks (for boxes alone take one without, as of '
                'Faster R-CNN)'
            )
        if problem:
            passed_over.append(f'{name_box(box, image)} has {problem}')
    data.dropped['with such a mask'] = len(passed_over)
    if passed_over:
        text = (
            f'{data.name} has masks that are none, whose objects are left '
            f'out: {some(passed_over, total)}'
        )
        yield ValueError(text) if len(passed_over) == total else text


def _find_problem(mask, image):
    """What is wrong with a mask, and whether loading it passes over it."""
    if not mask:
        return 'no mask', False
    if isinstance(mask, dict):
        sides = [image['height'], image['width']]
        counts, size = mask.get('counts'), mask.get('size')
        if not isinstance(counts, (list, str)) or size is None:
            return 'a mask without counts or size', True
        if size != sides:
            return f'a mask of height and width {size}, not {sides}', False
        if isinstance(counts, str):
            return None, False
        if not all(isinstance(n, (int, float)) and n >= 0 for n in counts):
            return 'a mask whose counts are no numbers from 0 on', False
        total = sum(counts)
        if total != math.prod(sides):
            pixels = math.prod(sides)
            return (
                f'a mask whose counts add up to {total}, not {pixels}',
                False,
            )
        return None, False
    try:
        finite = isinstance(mask, list) and math.isfinite(sum(map(sum, mask)))
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        return 'a mask that is no list of polygons of finite numbers', False
    # the metric takes a first one of four numbers for a box
    short = [len(p) for p in mask if len(p) < 6 or len(p) % 2]
    if len(short) == len(mask) or len(mask[0]) < 6:
        return f'a polygon of {short[0]} numbers', True
    return None, False
