"""Checks of the boxes in COCO's format: which are kept, and which are not.

Here and in the other files on COCO's format, ``boxes`` are its annotations,
and these, ``images`` and ``categories`` are what the file lists, by id.
"""

from collections import Counter
from collections.abc import Iterator

from rich.progress import track

from .coco_rules import RULES, find_problem
from .common import Finding, some
from .datasets import Data


def check_boxes(
    data: Data, boxes: dict, images: dict, categories: dict
) -> Iterator[Finding]:
    """Tells the boxes that CocoDataset leaves out, and counts them."""
    file, total = data.name, len(boxes)
    lost, flat, beyond, dropped = [], [], [], Counter()
    seen = shares = corners = 0
    known, text = {*map(str, images)}, False
    listed = categories.__contains__, 'its categories do not list'
    crowd = (None, 0, 1).__contains__, 'is neither 0 nor 1'
    rules = dict(RULES['boxes'], category_id=listed, iscrowd=crowd)
    short = total < 100_000  # done in less than 5 s
    for box in track(boxes.values(), 'checking boxes', disable=short):
        if box.get('ignore'):
            dropped['with ignore'] += 1
            continue
        image = images.get(box['image_id'])
        if image is None:
            dropped['of images not listed'] += 1
            text = text or str(box['image_id']) in known
            lost.append(f'annotation {box["id"]} (image {box["image_id"]})')
            continue
        if problem := find_problem({'iscrowd': None, **box}, rules):
            raise ValueError(f'{file}: {name_box(box, image)} {problem}')
        x, y, width, height = box['bbox']
        seen += 1
        shares += 0 < width <= 1 and 0 < height <= 1 and max(x, y) <= 1
        corners += width >= x and height >= y
        right, bottom = x + width, y + height
        if right > 1.05 * image['width'] or bottom > 1.05 * image['height']:
            beyond.append(name_box(box, image))
        if not is_kept(box, image):
            dropped['without area or outside of their image'] += 1
            flat.append(name_box(box, image))
        elif categories[box['category_id']]['name'] not in data.classes:
            dropped['of other classes'] += 1
        elif box.get('iscrowd'):
            dropped['with iscrowd'] += 1
    data.dropped = dropped
    if seen and shares == seen:
        yield ValueError(
            f'{file} has all boxes within 0…1, as shares of the image; write '
            'them in pixels'
        )
    if 2 * len(beyond) > seen:
        remark = (
            f'{file} has most boxes reaching beyond their image, as left, '
            'top, right, bottom do where left, top, width, height are meant: '
            f'{some(beyond, seen)}'
        )
        yield ValueError(remark) if corners == seen else remark
    if lost:
        hint = ', as an id that is text is not for a number,' if text else ''
        yield (
            f'{file} has annotations of images that it does not list{hint} '
            f'which are left out: {some(lost, total)}'
        )
    if flat:
        fate = 'left out' if data.training else 'counted as missed'
        yield (
            f'{file} has boxes without area or outside of their image, which '
            f'are {fate}: {some(flat, total)}'
        )


def is_kept(box: dict, image: dict) -> bool:
    """Whether MMDetection trains on a box."""
    x, y, width, height = box['bbox']
    right = min(x + width, image['width'])
    bottom = min(y + height, image['height'])
    inside = right > max(x, 0) and bottom > max(y, 0)
    return inside and box['area'] > 0 and width >= 1 and height >= 1


def name_box(box: dict, image: dict) -> str:
    """How a box is named in a message."""
    return f'annotation {box["id"]} (image {image["file_name"]})'
