"""Checks of annotations in Pascal VOC's format."""

import math
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

from .common import (
    Finding,
    check_images,
    check_names,
    is_number,
    read_text,
    some,
)
from .datasets import Data

SIZE = 'size/width', 'size/height'
BOX = 'bndbox/xmin', 'bndbox/ymin', 'bndbox/xmax', 'bndbox/ymax'
NOTE = ", but MMDetection reads VOC's images as .jpg only"


def check_voc(data: Data) -> Iterator[Finding]:
    """Checks a list of images and their XML files, and counts objects."""
    file, classes = data.name, data.classes
    names = read_text(data.file).splitlines()
    folder = data.folder('sub_data_root')
    annotations = folder / data.host.ann_subdir
    images = folder / data.host.img_subdir
    counts, difficult, flat, outside = Counter(), 0, [], []
    for stem in names:
        path = annotations / f'{stem}.xml'
        root = _read_xml(path, data.file)
        size = 0, 0  # MMDetection opens the image where there is none
        if root.find('size') is not None:
            size = _read(path, root, SIZE, 'two whole numbers')
        for node in root.findall('object'):
            if node.find('name') is None:
                raise ValueError(f'{str(path)!r} has an object without a name')
            label = node.findtext('name') or None
            counts[label] += 1
            if label not in classes:
                continue
            box = _read(path, node, BOX, 'four finite numbers', float)
            flags = ['difficult'] * (node.find('difficult') is not None)
            if any(_read(path, node, flags, '0 or 1')):
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


def _read(path, node, keys, kind, convert=int):
    """The whole numbers of an XML node, converted as MMDetection does."""
    texts = {key: node.findtext(key) for key in keys}
    try:
        values = tuple(int(convert(text)) for text in texts.values())
    except (TypeError, ValueError, OverflowError):
        values = (math.nan,)
    if not all(map(is_number, values)):
        name = node.findtext('name')
        words = ', '.join(f'{key} {text!r:.99}' for key, text in texts.items())
        raise ValueError(
            f'{str(path)!r}: {repr(name) if name else "it"} has {words}, '
            f'not {kind}'
        )
    return values


def _is_outside(box, size):
    # some files give 0 for a size that nobody noted
    width, height = (side or math.inf for side in size)
    return box[0] > width or box[1] > height or min(box[2:]) <= 1
