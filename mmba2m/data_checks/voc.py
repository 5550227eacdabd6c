"""Checks of annotations in Pascal VOC's format."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from .common import (
    Finding,
    check_images,
    check_names,
    is_number,
    read_text,
    some,
    track,
)
from .datasets import Data

NOTE = ", but MMDetection reads VOC's images as .jpg only"


def check_voc(data: Data) -> Iterator[Finding]:
    """Checks a list of images and their XML files, and counts objects."""
    file, classes = data.name, data.classes or ()
    names = read_text(data.file).splitlines()
    folder = data.folder('sub_data_root')
    annotations = folder / data.host.ann_subdir
    images = folder / data.host.img_subdir
    counts, difficult, flat, outside = Counter(), 0, [], []
    for name in track(names, data.began):
        path = annotations / f'{name}.xml'
        root = _read_xml(path, data.file)
        size = _size(root, path)
        for node in root.findall('object'):
            label = _name(node, path)
            counts[label] += 1
            if label not in classes:
                continue
            box = _box(node, path)
            if _is_difficult(node, path):
                difficult += 1  # not trained on
            elif box[2] - box[0] < 1 or box[3] - box[1] < 1:
                flat.append(f'{box} in {path.name}')
            elif _is_outside(box, size):
                outside.append(f'{box} in {path.name}')
    if data.has_local_images:
        paths = [images / f'{name}.jpg' for name in names]
        check_images(paths, data.file, NOTE)
    total = counts.total()
    others = {str(k): n for k, n in counts.items() if k not in classes}
    data.listed, data.objects = len(names), total
    other = sum(others.values())
    data.dropped.update({'difficult': difficult, 'of other classes': other})
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield (
            f'{file} lists images more than once: {some(twice, len(names))}'
        )
    if not data.training:  # a small test set need not show every class
        return
    check_names(classes, counts, data.file)
    if others:
        yield (
            f'{file} has objects of classes that the config has not, which '
            f'are left out: {others}'
        )
    yield from _check_targets(data, flat, outside, total)


def _check_targets(data, flat, outside, total):
    file, rules = data.name, data.config.get('filter_cfg') or {}
    filtered = data.has_step('FilterAnnotations')
    if flat and not (filtered or rules.get('bbox_min_size', 0) >= 1):
        yield ValueError(
            f'{file} has boxes without area, of which the loss '
            'would be NaN; filter_cfg=dict(bbox_min_size=1) leaves them out. '
            f'They are {some(flat, total)}'
        )
    # clipped to the image when it is resized, they are without area as well
    elif outside and not filtered:
        yield ValueError(
            f'{file} has boxes outside of their image, of which '
            "the loss would be NaN; dict(type='FilterAnnotations', "
            'min_gt_bbox_wh=(1, 1)) after the Resize of the pipeline leaves '
            f'them out. They are {some(outside, total)}'
        )
    elif flat or outside:
        yield (
            f'{file} has boxes without area or outside of their '
            f'image, which are left out: {some(flat + outside, total)}'
        )


def _read_xml(path, ann_file):
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{str(path)!r}, listed in {str(ann_file)!r}, not found'
        ) from None
    except ElementTree.ParseError as error:
        raise ValueError(
            f'{str(path)!r} is not whole XML, cut off or damaged: {error}'
        ) from None


def _size(root, path):
    """Width and height, or None, where MMDetection opens the image."""
    if root.find('size') is None:
        return None
    texts = [root.findtext(f'size/{side}') for side in ('width', 'height')]
    try:
        return [int(text) for text in texts]
    except (TypeError, ValueError):
        raise ValueError(
            f'{str(path)!r}: its width and height are {texts}, not two '
            'whole numbers'
        ) from None


def _name(node: ElementTree.Element, path: Path) -> str | None:
    if node.find('name') is None:
        raise ValueError(f'{str(path)!r} has an object without a name')
    return node.findtext('name') or None


def _is_difficult(node, path):
    text = node.findtext('difficult', '0')
    try:
        return int(text) != 0
    except ValueError:
        raise ValueError(
            f'{str(path)!r}: difficult of {node.findtext("name")!r} is '
            f'{text!r}, not 0 or 1'
        ) from None


def _box(node, path):
    """The box of an object as MMDetection reads it, in VOC's pixels from 1."""
    sides = ('xmin', 'ymin', 'xmax', 'ymax')
    texts = [node.findtext(f'bndbox/{side}') for side in sides]
    try:
        box = tuple(int(float(text)) for text in texts)
    except (TypeError, ValueError, OverflowError):
        box = (math.inf,)
    if not all(map(is_number, box)):
        raise ValueError(
            f'{str(path)!r}: the box of {node.findtext("name")!r} is {texts}, '
            'not four finite numbers'
        )
    return box


def _is_outside(box, size):
    # some files give 0 for a size that nobody noted
    width, height = (side or math.inf for side in size or (0, 0))
    return box[0] > width or box[1] > height or min(box[2:]) <= 1
