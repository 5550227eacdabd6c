"""Checks of the boxes in COCO's format: which are kept, and which are not.

Here and in the other files on COCO's format, ``boxes`` are its annotations,
and these, ``images`` and ``categories`` are what the file lists, by id.
"""

from collections import Counter
from collections.abc import Iterator

from .common import Finding, is_number, some, track
from .datasets import Data


def check_boxes(
    data: Data, boxes: dict, images: dict, categories: dict
) -> Iterator[Finding]:
    """Tells the boxes that CocoDataset leaves out, and counts them."""
    file, total = data.name, len(boxes)
    lost, flat, beyond, dropped = [], [], [], Counter()
    seen = shares = corners = 0
    for box in track(boxes.values(), data.began):
        if box.get('ignore'):
            dropped['with ignore'] += 1
            continue
        image = _check_box(box, images, categories, file)
        if image is None:
            dropped['of images not listed'] += 1
            lost.append(f'annotation {box["id"]} (image {box["image_id"]})')
            continue
        x, y, width, height = box['bbox']
        seen += 1
        shares += 0 < width <= 1 and 0 < height <= 1 and max(x, y) <= 1
        corners += width >= x and height >= y
        share = max(
            (x + width) / image['width'], (y + height) / image['height']
        )
        if share > 1.05:
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
        known = {*map(str, images)}
        text = len(lost) == total and any(
            str(box['image_id']) in known for box in boxes.values()
        )
        hint = ', as an id that is text is not for a number,' if text else ''
        yield (
            f'{file} has annotations of images that it does not list{hint} '
            f'which are left out: {some(lost, total)}'
        )
    if flat:
        fate = (
            'left out' if data.training else 'counted by the metric as missed'
        )
        yield (
            f'{file} has boxes without area or outside of their image, which '
            f'are {fate}: {some(flat, total)}'
        )


def _check_box(box, images, categories, file):
    """The image of a box that holds what MMDetection reads, if listed."""
    check_keys(box, ('bbox', 'area'), 'annotation', file)
    for key in ('image_id', 'category_id'):
        if isinstance(box[key], (list, dict)):
            raise ValueError(
                f'{file}: annotation {box["id"]} has the {key} {box[key]!r}, '
                'which is no id'
            )
    image = images.get(box['image_id'])
    if image is None:
        return None
    bbox, problem = box['bbox'], ''
    if box['category_id'] not in categories:
        problem = (
            f'category id {box["category_id"]!r}, which its categories do '
            'not list'
        )
    elif not (
        isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox))
    ):
        problem = f'bbox {bbox!r}, which is not four finite numbers'
    elif not is_number(box['area']):
        problem = f'area {box["area"]!r}, which is no finite number'
    elif box.get('iscrowd') not in (None, 0, 1):
        problem = f'iscrowd {box["iscrowd"]!r}, which is neither 0 nor 1'
    if problem:
        raise ValueError(f'{file}: {name_box(box, image)} has the {problem}')
    return image


def is_kept(box: dict, image: dict) -> bool:
    """Whether MMDetection trains on a box."""
    x, y, width, height = box['bbox']
    inside = min(x + width, image['width']) > max(x, 0) and min(
        y + height, image['height']
    ) > max(y, 0)
    return inside and box['area'] > 0 and width >= 1 and height >= 1


def name_box(box: dict, image: dict) -> str:
    """How a box is named in a message."""
    return f'annotation {box["id"]} (image {image["file_name"]})'


def describe(entry: dict) -> str:
    """What a user finds an image, annotation or category by."""
    for key in ('file_name', 'name', 'image_id'):
        if key in entry:
            return f'{key} {entry[key]!r}'
    return repr(entry)


def check_keys(
    entry: dict, keys: tuple[str, ...], kind: str, file: str
) -> None:
    """Refuses an entry that lacks one of the keys."""
    for key in keys:
        if key not in entry:
            raise ValueError(
                f'{file}: {kind} {entry.get("id", "")} ({describe(entry)}) '
                f'has no {key!r}'
            )
