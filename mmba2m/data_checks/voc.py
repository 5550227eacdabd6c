"""Checks of annotations in Pascal VOC's format."""

import math
from collections import Counter
from xml.etree import ElementTree

from .common import check_images, check_names, read_text, some


def check_voc(ann_file, folder, classes, dataset, training):
    """Checks a list of images and the XML files of its images.

    Args:
        ann_file (Path): The list of images.
        folder (Path): Of the folders of images and annotations.
        classes (Sequence[str]): Names of the classes.
        dataset (dict): Config of the data set.
        training (bool): Whether it is to be trained on.

    Returns:
        list[str]: What the data set leaves out without a word.
    """
    names = read_text(ann_file).splitlines()
    annotations = folder / dataset.get('ann_subdir', 'Annotations')
    images = folder / dataset.get('img_subdir', 'JPEGImages')
    rules = dataset.get('filter_cfg') or {}
    counts, flat, outside, kept = Counter(), [], [], 0
    for name in names:
        path = annotations / f'{name}.xml'
        root = _read_xml(path, ann_file)
        size = _size(root, path)
        objects = root.findall('object')
        counts.update(node.findtext('name') for node in objects)
        objects = [
            node for node in objects if node.findtext('name') in classes
        ]
        for node in objects:
            box = _box(node, path)
            if int(node.findtext('difficult') or 0):
                continue  # not trained on
            if box[2] - box[0] < 1 or box[3] - box[1] < 1:
                flat.append(f'{box} in {path.name}')
            elif _is_outside(box, size):
                outside.append(f'{box} in {path.name}')
        large = size is None or min(size) >= rules.get('min_size', 0)
        kept += large and bool(objects or not rules.get('filter_empty_gt'))
    check_images([images / f'{name}.jpg' for name in names], ann_file)
    remarks = []
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        remarks.append(
            f'{str(ann_file)!r} lists images more than once: '
            f'{some(twice, len(names))}'
        )
    if not training:  # a small test set need not show every class
        return remarks
    check_names(classes, counts, ann_file)
    if not kept:
        raise ValueError(
            f'{str(ann_file)!r}: filter_cfg={dict(rules)} leaves none of its '
            f'{len(names)} images'
        )
    others = {
        str(name): count
        for name, count in counts.items()
        if name not in classes
    }
    if others:
        remarks.append(
            f'{str(ann_file)!r} has objects of classes that the config has '
            f'not, which are left out: {others}'
        )
    filtered = any(
        step.get('type', '').endswith('FilterAnnotations')
        for step in dataset.get('pipeline') or ()
    )
    total = counts.total()
    if flat and not (filtered or rules.get('bbox_min_size', 0) >= 1):
        raise ValueError(
            f'{str(ann_file)!r} has boxes without area, of which the loss '
            'would be NaN; filter_cfg=dict(bbox_min_size=1) leaves them out. '
            f'They are {some(flat, total)}'
        )
    # clipped to the image when it is resized, they are without area as well
    if outside and not filtered:
        raise ValueError(
            f'{str(ann_file)!r} has boxes outside of their image, of which '
            "the loss would be NaN; dict(type='FilterAnnotations', "
            'min_gt_bbox_wh=(1, 1)) after the Resize of the pipeline leaves '
            f'them out. They are {some(outside, total)}'
        )
    if flat or outside:
        remarks.append(
            f'{str(ann_file)!r} has boxes without area or outside of their '
            f'image, which are left out: {some(flat + outside, total)}'
        )
    return remarks


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


def _box(node, path):
    """The box of an object as MMDetection reads it, in VOC's pixels from 1."""
    sides = ('xmin', 'ymin', 'xmax', 'ymax')
    texts = [node.findtext(f'bndbox/{side}') for side in sides]
    try:
        return tuple(int(float(text)) for text in texts)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f'{str(path)!r}: the box of {node.findtext("name")!r} is {texts}, '
            'not four finite numbers'
        ) from None


def _is_outside(box, size):
    # some files give 0 for a size that nobody noted
    width, height = (side or math.inf for side in size or (0, 0))
    return box[0] > width or box[1] > height or min(box[2:]) <= 1
