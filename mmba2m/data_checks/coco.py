"""Checks of annotations in COCO's format: the file, its ids and its names."""

import gc
import json
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .coco_boxes import check_boxes, check_keys, describe
from .coco_masks import check_masks
from .coco_metric import check_metric
from .common import (
    Finding,
    check_images,
    check_names,
    is_id,
    is_number,
    read_text,
)
from .datasets import Data


def read_json(file: Path) -> object:
    """Reads a JSON file, or says which one cannot be read."""
    size = file.stat().st_size / 1e6
    if size > 100:
        print(f'reading {file} ({size:.0f} MB), to check it', flush=True)
    text = read_text(file)
    gc.disable()  # nothing of what is read can go
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        problem = f'is not whole JSON, cut off or damaged: {error}'
    except RecursionError:
        problem = 'is nested too deep'
    finally:
        gc.enable()
    raise ValueError(f'{str(file)!r} {problem}')


def check_coco(
    data: Data, content: Any, order: list[str] | None
) -> Iterator[Finding]:
    """Checks a file of COCO's format.

    Args:
        data: The data set; what is counted is noted there.
        content: Of the file. What is not COCO's passes where the data set
            has a reader of its own.
        order: The classes in the order of a file that was checked before.
    """
    own = data.reads_as('CocoDataset')
    if not own and not (isinstance(content, dict) and 'images' in content):
        return
    file = data.name
    names = _list_names(content, file)
    check_names(data.classes or (), names, data.file)
    if not own:  # read in another way than COCO's
        return
    images, boxes, categories = (
        _by_id(content[key], key, file)
        for key in ('images', 'annotations', 'categories')
    )
    for image in images.values():
        _check_image(image, file)
    data.listed, data.objects = len(images), len(boxes)
    yield from _check_order(data, names, order)
    yield from check_boxes(data, boxes, images, categories)
    yield from check_masks(data, boxes, images, categories)
    yield from check_metric(data, boxes, images)
    yield from _check_copies(images, boxes, file)
    if data.has_local_images:
        folder = data.folder('img')
        names = [image['file_name'] for image in images.values()]
        check_images([folder / name for name in names], data.file)


def _list_names(content, file):
    """The names of the categories, of a file with the lists that it needs."""
    if not isinstance(content, dict):
        raise ValueError(f'{file} is a {type(content).__name__}, no object')
    for key in ('images', 'annotations', 'categories'):
        if key not in content:
            raise ValueError(f'{file} has no {key!r}')
        entries = content[key]
        if not isinstance(entries, list):
            raise ValueError(f'{file}: {key!r} is no list: {entries!r:.99}')
        for entry in entries:
            if not isinstance(entry, dict):
                raise ValueError(f'{file}: one of the {key} is {entry!r}')
    for category in content['categories']:
        check_keys(category, ('name',), 'category', file)
        if not isinstance(category['name'], str):
            raise ValueError(
                f'{file}: category {category.get("id")} has the name '
                f'{category["name"]!r}, which is no text'
            )
    return [category['name'] for category in content['categories']]


def _by_id(entries, kind, file):
    found = {}
    for entry in entries:
        keys = ('image_id', 'category_id') if kind == 'annotations' else ()
        check_keys(entry, ('id', *keys), f'one of the {kind}', file)
        key = entry['id']
        if not isinstance(key, str) and not is_id(key):
            raise ValueError(
                f'{file}: one of the {kind} ({describe(entry)}) has the id '
                f'{key!r}, which is no number'
            )
        if key in found:
            raise ValueError(
                f'{file} has two {kind} of id {key}: {describe(found[key])} '
                f'and {describe(entry)}'
            )
        found[key] = entry
    if not found and kind == 'images':
        raise ValueError(f'{file} lists no images')
    return found


def _check_image(image, file):
    check_keys(image, ('file_name', 'width', 'height'), 'image', file)
    name, side = image['file_name'], ''
    for key in ('height', 'width'):
        if not is_number(image[key]) or image[key] <= 0:
            side = f'{key} {image[key]!r}, no number of pixels'
    if not isinstance(name, str) or not name.strip():
        side = f'file_name {name!r}'
    if side:
        raise ValueError(
            f'{file}: image {image["id"]} ({name}) has the {side}'
        )


def _check_order(data, names, order):
    """Labels follow the order of the categories, names that of the config."""
    classes = list(data.classes)
    data.order = found = [name for name in names if name in classes]
    for name in classes:
        if names.count(name) > 1:
            raise ValueError(
                f'{data.name} has more than one category {name!r}, which '
                'would shift the labels of those after it'
            )
    if found == classes:
        return
    label = [a == b for a, b in zip_longest(found, classes)].index(False)
    remedy = f'sort its categories: {", ".join(classes)}'
    if order == found or (data.training and not order):
        remedy = f'write classes={tuple(found)}'
    yield ValueError(
        f'{data.name} has its categories in another order than the config its '
        f'classes, and MMDetection numbers labels by it: label {label} is '
        f'{"".join(found[label : label + 1])!r} there and {classes[label]!r} '
        f'in the config; {remedy}'
    )


def _check_copies(images, boxes, file):
    """Two entries of one image are each the other's background."""
    first, copies = {}, {}
    for key, image in images.items():
        other = first.setdefault(os.path.normpath(image['file_name']), key)
        if other != key:
            copies[key] = other
    shown = {key: [] for key in (*copies, *copies.values())}
    for box in boxes.values() if copies else ():
        if box['image_id'] in shown:
            entry = repr((box['category_id'], box['bbox']))
            shown[box['image_id']].append(entry)
    for key, other in copies.items():
        text = (
            f'{file} lists the image {images[key]["file_name"]!r} under the '
            f'ids {other} and {key}'
        )
        if sorted(shown[key]) != sorted(shown[other]):
            raise ValueError(
                f'{text} with different boxes, so that each would train the '
                'objects of the other as background; put them under one id'
            )
    if copies:
        yield f'{text}, so it counts twice ({len(copies)} images do)'
