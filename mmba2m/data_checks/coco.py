"""Checks of annotations in COCO's format: the file, its ids and its names."""

import gc
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .coco_boxes import check_boxes
from .coco_masks import check_masks
from .coco_rules import RULES, find_problem
from .common import Finding, check_images, check_names, read_text, some
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
            is of another type.
        order: Of the classes in a file that was checked before, if any.
    """
    file, own = data.name, data.reads_as('CocoDataset')
    is_object = isinstance(content, dict)
    if not own and not (is_object and 'images' in content):
        return
    if not is_object:
        raise ValueError(f'{file} is a {type(content).__name__}, no object')
    categories = _by_id(content, 'categories', file)
    names = [category['name'] for category in categories.values()]
    check_names(data.classes, names, data.file)
    if not own:  # read in another way than COCO's
        return
    images = _by_id(content, 'images', file)
    boxes = _by_id(content, 'annotations', file)
    if not images:
        raise ValueError(f'{file} lists no images')
    data.listed, data.objects = len(images), len(boxes)
    yield from _check_order(data, names, order)
    yield from check_boxes(data, boxes, images, categories)
    yield from check_masks(data, boxes, images, categories)
    if data.scores():
        yield from _check_metric(data, boxes, images)
    yield from _check_copies(data, images, boxes)
    if data.has_local_images:
        folder = data.folder('img')
        names = [image['file_name'] for image in images.values()]
        check_images([folder / name for name in names], data.file)


def _by_id(content, kind, file):
    """The entries of one kind, each of which keeps its rules."""
    if kind not in content:
        raise ValueError(f'{file} has no {kind!r}')
    if not isinstance(content[kind], list):
        raise ValueError(f'{file}: {kind!r} is no list: {content[kind]!r:.99}')
    found = {}
    for entry in content[kind]:
        if not isinstance(entry, dict):
            raise ValueError(f'{file}: one of the {kind} is {entry!r:.99}')
        problem = find_problem(entry, RULES[kind])
        if not problem and entry['id'] in found:
            other = _describe(found[entry['id']])
            problem = f'has the id of another ({other})'
        if problem:
            name = f'one of the {kind} ({_describe(entry)})'
            raise ValueError(f'{file}: {name} {problem}')
        found[entry['id']] = entry
    return found


def _describe(entry):
    """What a user finds an entry by."""
    keys = ('id', 'file_name', 'name', 'image_id')
    return ', '.join(f'{key} {entry[key]!r}' for key in keys if key in entry)


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


def _check_metric(data, boxes, images):
    """Tells annotations on which COCO's metric fails or is wrong."""
    text = f'{data.name} has what the metric fails on'
    lacking = [
        f'annotation {k}' for k in boxes if boxes[k].get('iscrowd') is None
    ]
    words = [repr(key) for key in boxes if isinstance(key, str)]
    for problem, found in (
        ("annotations without 'iscrowd': write 0", lacking),
        ('ids of annotations that are no numbers', words),
    ):
        if found:
            they = some(found, len(boxes))
            yield ValueError(f'{text}, {problem}. They are {they}')
    if len({isinstance(key, str) for key in images}) > 1:
        yield ValueError(f'{text}, numbers and text as ids of images')
    if 0 in boxes:
        yield (
            f'{data.name} has an annotation of id 0, which the metric takes '
            'for none: found, it counts as wrong. Count from 1'
        )


def _check_copies(data, images, boxes):
    """Two entries of one image are each the other's background."""
    entries, folder = defaultdict(list), data.host.data_prefix.get('img', '')
    for key, image in images.items():
        path = os.path.join(folder, image['file_name'])
        entries[os.path.normpath(path)].append(key)
    copies = {name: keys for name, keys in entries.items() if len(keys) > 1}
    if not copies:
        return
    shown = defaultdict(list)
    for box in boxes.values():
        value = repr((box['category_id'], box.get('bbox')))
        shown[box['image_id']].append(value)
    for name, keys in copies.items():
        ids = ' and '.join(map(str, keys))
        text = f'{data.name} lists the image {name!r} under the ids {ids}'
        if len({tuple(sorted(shown[key])) for key in keys}) > 1:
            raise ValueError(
                f'{text} with different boxes, so that each would train the '
                'objects of the other as background; put them under one id'
            )
    yield f'{text}, so it counts twice ({len(copies)} images do)'
