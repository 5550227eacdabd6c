"""Converts VOC's instance masks to COCO's format, for Mask R-CNN.

Pascal VOC has instance masks for its segmentation images only. Pixel value i
of a PNG in SegmentationObject is the i-th object of the image's XML file, 0 is
background, and 255 the border around objects, which belongs to none. Where
box and mask of an object disagree, it is reported and kept as a region to
ignore (iscrowd), as are difficult objects.

The lists of VOC 2012 hold the segmentation images of 2007 again, those of its
test set among them, as 2007_…: beside VOC 2007 they are left out.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from mmdet.evaluation import get_classes
from mmengine.utils import track_iter_progress
from PIL import Image
from pycocotools import mask as coco_mask

# in the order of the pixel values of SegmentationClass, from 1
CLASSES = get_classes('voc')
VOID = 255
# of box and mask; VOC's border is 5 pixels wide
MIN_IOU = 0.5
BORDER = 5


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('devkit', help='folder with VOC2007 and/or VOC2012')
    parser.add_argument(
        '--years', nargs='+', default=['2007', '2012'], help='both by default'
    )
    parser.add_argument(
        '--split',
        default='trainval',
        help='list in ImageSets/Segmentation, trainval by default',
    )
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='by default annotations/instances_voc0712_trainval.json in the '
        'devkit, after the years and the split',
    )
    return parser.parse_args()


def convert(devkit, years, split):
    """Converts the segmentation images of some years.

    Args:
        devkit (Path): Folder with ``VOC2007`` and so on.
        years (list[str]): Years of VOC.
        split (str): A list in ``ImageSets/Segmentation``.

    Returns:
        tuple[dict, Counter, list[str]]: Annotations in COCO's format, counts
        of objects by what became of them and of images left out (``again``),
        and the disagreements.
    """
    images, annotations, problems = [], [], []
    counts = Counter()
    names = []
    for year in years:
        root = devkit / f'VOC{year}'
        lines = (root / f'ImageSets/Segmentation/{split}.txt').read_text()
        found = [line.split()[0] for line in lines.splitlines() if line]
        if '2007' in years:
            again = [name for name in found if name.startswith('2007_')]
            counts['again'] += len(again)
            found = [name for name in found if name not in again]
        names += [(root, name) for name in found]
    if not names:
        raise ValueError(f'{split}.txt of {", ".join(years)} lists no image')
    for image_id, (root, name) in enumerate(track_iter_progress(names), 1):
        width, height, objects = read_image(root, name, problems)
        images.append(
            dict(
                id=image_id,
                file_name=f'{root.name}/JPEGImages/{name}.jpg',
                width=width,
                height=height,
            )
        )
        for category, box, mask, fate in objects:
            counts[fate] += 1
            rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            rle['counts'] = rle['counts'].decode()
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category,
                    bbox=list(box),
                    segmentation=rle,
                    area=int(mask.sum()),
                    iscrowd=int(fate != 'used'),
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    return content, counts, problems


def read_image(root, name, problems):
    """Reads an image's objects as ``(category, box, mask, fate)``."""
    path = root / f'Annotations/{name}.xml'
    try:
        nodes = ElementTree.parse(path).findall('object')
    except ElementTree.ParseError as error:
        raise ValueError(f'{path} is not whole XML: {error}') from None
    boxes = [read_object(node, path) for node in nodes]
    instances = read_png(root / f'SegmentationObject/{name}.png')
    classes = read_png(root / f'SegmentationClass/{name}.png')
    height, width = instances.shape
    with Image.open(root / f'JPEGImages/{name}.jpg') as image:
        sizes = {image.size, classes.shape[::-1], (width, height)}
    if len(sizes) > 1:
        raise ValueError(
            f'{root.name}: image {name} and its masks have different sizes: '
            f'{", ".join(f"{w}×{h}" for w, h in sorted(sizes))}'
        )
    indices = np.unique(instances)
    last = max([len(boxes), *indices[indices != VOID]])
    objects = []
    for index in range(1, last + 1):
        mask = instances == index
        category, box, difficult = None, None, False
        if index <= len(boxes):
            category, box, difficult = boxes[index - 1]
        if box is None and not mask.any():
            continue  # an index that was left out
        problem = find_problem(category, box, mask, instances, classes)
        if box is None:
            category, box = majority(classes[mask]), find_box(mask)
        label = CLASSES[category - 1] if category else 'unknown'
        if problem:
            problems.append(
                f'{root.name}: image {name}, object {index} ({label}): '
                f'{problem}'
            )
        if not category:
            continue
        if not mask.any():
            mask = fill_box(box, mask.shape)
        fate = 'disagree' if problem else 'difficult' if difficult else 'used'
        objects.append((category, box, mask, fate))
    return width, height, objects


def read_object(node, path):
    """Reads category, box as x, y, w, h, and whether it is difficult."""
    name = node.findtext('name')
    if name not in CLASSES:
        raise ValueError(f'{path}: {name!r} is none of the classes of VOC')
    x1, y1, x2, y2 = (
        float(node.findtext(f'bndbox/{key}', 'nan'))
        for key in ('xmin', 'ymin', 'xmax', 'ymax')
    )
    if not (x1 <= x2 and y1 <= y2):  # or not a number
        raise ValueError(
            f'{path}: box of a {name} is {x1}, {y1}, {x2}, {y2}, which is none'
        )
    # VOC counts pixels from 1, and the last one is inside
    box = (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1)
    return CLASSES.index(name) + 1, box, node.findtext('difficult') == '1'


def read_png(path):
    with Image.open(path) as image:
        if image.mode not in ('P', 'L'):
            raise ValueError(
                f'{path}: pixels must be indices (a palette image), not '
                f'{image.mode}'
            )
        return np.array(image)


def find_problem(category, box, mask, instances, classes):
    """Says how box and mask of an object disagree, if they do."""
    if box is None:
        return 'a mask without a box'
    if not mask.any():
        return 'a box without a mask'
    kernel = np.ones((2 * BORDER + 1,) * 2, np.uint8)
    near = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
    seen = find_box(mask | (near & (instances == VOID)))
    iou = coco_mask.iou(np.array([box]), np.array([seen]), [0]).item()
    if iou < MIN_IOU:
        return f'box and mask overlap with IoU {iou:.2f}'
    found = majority(classes[mask])
    if found != category:
        name = CLASSES[found - 1] if found else 'no class'
        return f'in SegmentationClass it is {name}'
    return None


def majority(values):
    """The class most pixels have, or None if that is background or void."""
    value = int(np.bincount(values).argmax())
    return value if 1 <= value <= len(CLASSES) else None


def find_box(mask):
    return cv2.boundingRect(mask.astype(np.uint8))


def fill_box(box, shape):
    x, y, w, h = (round(value) for value in box)
    mask = np.zeros(shape, bool)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = True
    return mask


def main():
    args = parse_args()
    devkit = Path(args.devkit)
    try:
        content, counts, problems = convert(devkit, args.years, args.split)
    except (OSError, ValueError) as error:
        sys.exit(f'pascal_voc_instances: {error}')
    years = ''.join(year[2:] for year in args.years)
    out = devkit / f'annotations/instances_voc{years}_{args.split}.json'
    out = Path(args.out or out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content))
    print()
    for problem in problems:
        print(problem)
    print(
        f'{out}: {len(content["images"])} images, {counts["used"]} objects; '
        f'ignored: {counts["difficult"]} difficult, {len(problems)} '
        'whose box and mask disagree'
    )
    if counts['again']:
        print(
            f'left out: {counts["again"]} images of VOC 2007 that the lists '
            'of 2012 hold again'
        )


if __name__ == '__main__':
    main()
