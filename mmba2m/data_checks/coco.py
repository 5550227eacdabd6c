"""Checks of annotations in COCO's format."""

import json
import math

from .common import check_images, check_names, read_text, some


def read_json(ann_file):
    """Reads a JSON file, or says which one cannot be read."""
    try:
        return json.loads(read_text(ann_file))
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{str(ann_file)!r} is not whole JSON, cut off or damaged: {error}'
        ) from None


def check_coco(content, ann_file, folder, classes, dataset, training):
    """Checks a file of COCO's format.

    Args:
        content (object): Of the JSON file; what is not COCO's passes.
        ann_file (Path): Where it was read.
        folder (Path | None): Of the images. None if images and boxes are not
            to be checked, as they are read in another way than COCO's.
        classes (Sequence[str] | None): Names of the classes.
        dataset (dict): Config of the data set.
        training (bool): Whether it is to be trained on.

    Returns:
        list[str]: What the data set leaves out without a word.
    """
    if not isinstance(content, dict) or 'images' not in content:
        return []
    for key in ('annotations', 'categories'):
        if key not in content:
            raise ValueError(f'{str(ann_file)!r} has no {key!r}')
    names = [category['name'] for category in content['categories']]
    check_names(classes or (), names, ann_file)
    if folder is None:
        return []
    images, boxes, categories = (
        _by_id(content[key], key, ann_file)
        for key in ('images', 'annotations', 'categories')
    )
    for name in classes or ():
        if names.count(name) > 1:
            raise ValueError(
                f'{str(ann_file)!r} has more than one category {name!r}, '
                'which would shift the labels of those after it'
            )
    for image in images.values():
        _check_keys(image, ('file_name', 'width', 'height'), 'image', ann_file)
    remarks = _check_boxes(boxes, images, categories, ann_file, training)
    if training:
        wanted = {
            key
            for key, category in categories.items()
            if category['name'] in (classes or names)
        }
        _check_filter(dataset, images, boxes, wanted, ann_file)
    paths = [folder / image['file_name'] for image in images.values()]
    check_images(paths, ann_file)
    return remarks


def _by_id(entries, kind, ann_file):
    found = {}
    for entry in entries:
        _check_keys(entry, ('id',), f'one of the {kind}', ann_file)
        if entry['id'] in found:
            raise ValueError(
                f'{str(ann_file)!r} has two {kind} of id {entry["id"]}: '
                f'{_describe(found[entry["id"]])} and {_describe(entry)}'
            )
        found[entry['id']] = entry
    if not found and kind == 'images':
        raise ValueError(f'{str(ann_file)!r} lists no images')
    return found


def _describe(entry):
    """What a user finds an image, annotation or category by."""
    for key in ('file_name', 'name', 'image_id'):
        if key in entry:
            return f'{key} {entry[key]!r}'
    return repr(entry)


def _check_keys(entry, keys, kind, ann_file):
    for key in keys:
        if key not in entry:
            raise ValueError(
                f'{str(ann_file)!r}: {kind} {entry.get("id", "")} '
                f'({_describe(entry)}) has no {key!r}'
            )


def _check_boxes(boxes, images, categories, ann_file, training):
    lost, flat = [], []
    keys = ('image_id', 'category_id', 'bbox', 'area')
    for box in boxes.values():
        if box.get('ignore'):
            continue
        _check_keys(box, keys, 'annotation', ann_file)
        image = images.get(box['image_id'])
        if image is None:
            lost.append(f'annotation {box["id"]} (image {box["image_id"]})')
            continue
        if box['category_id'] not in categories:
            raise ValueError(
                f'{str(ann_file)!r}: {_which(box, image)} has the category id '
                f'{box["category_id"]!r}, which its categories do not list'
            )
        if not _is_box(box['bbox']):
            raise ValueError(
                f'{str(ann_file)!r}: {_which(box, image)} has the bbox '
                f'{box["bbox"]!r}, which is not four finite numbers'
            )
        if not _is_kept(box, image):
            flat.append(_which(box, image))
    remarks = []
    if lost:
        remarks.append(
            f'{str(ann_file)!r} has annotations of images that it does not '
            f'list, which are left out: {some(lost, len(boxes))}'
        )
    if flat:
        fate = 'left out' if training else 'counted by the metric as missed'
        remarks.append(
            f'{str(ann_file)!r} has boxes without area or outside of their '
            f'image, which are {fate}: {some(flat, len(boxes))}'
        )
    return remarks


def _which(box, image):
    return f'annotation {box["id"]} (image {image["file_name"]})'


def _is_box(bbox):
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(value, int | float) for value in bbox)
        and all(map(math.isfinite, bbox))
    )


def _is_kept(box, image):
    """Whether MMDetection trains on a box."""
    x, y, width, height = box['bbox']
    inside = min(x + width, image['width']) > max(x, 0) and min(
        y + height, image['height']
    ) > max(y, 0)
    return inside and box['area'] > 0 and width >= 1 and height >= 1


def _check_filter(dataset, images, boxes, wanted, ann_file):
    """Refuses a filter that leaves no image, as MMDetection applies it."""
    rules = dataset.get('filter_cfg') or {}
    shown = {
        box.get('image_id')
        for box in boxes.values()
        if box.get('category_id') in wanted
    }
    for key, image in images.items():
        large = min(image['width'], image['height']) >= rules.get(
            'min_size', 0
        )
        if large and (key in shown or not rules.get('filter_empty_gt')):
            return
    raise ValueError(
        f'{str(ann_file)!r}: filter_cfg={dict(rules)} leaves none of its '
        f'{len(images)} images'
    )
