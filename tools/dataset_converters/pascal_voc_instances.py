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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmdet.datasets import VOCDataset
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.utils import track_iter_progress
from PIL import Image
from pycocotools import mask as coco_mask

from mmba2m.engine.cli import run_main
from mmba2m.inspect import build_dataset

# in the order of the pixel values of SegmentationClass, from 1
CLASSES = VOCDataset.METAINFO['classes']
VOID = 255
# of box and mask; VOC's border is 5 pixels wide
MIN_IOU = 0.5
BORDER = 5


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('devkit', type=Path, help='folder with VOC2007 and/or VOC2012')
    add('--years', nargs='+', default=['2007', '2012'], help='both by default')
    text = 'list in ImageSets/Segmentation, trainval by default'
    add('--split', default='trainval', help=text)
    text = 'by default annotations/instances_voc0712_trainval.json in the '
    text += 'devkit, after the years and the split'
    add('--out', type=Path, metavar='FILE.json', help=text)
    return parser.parse_args()


def open_year(root: Path, split: str) -> BaseDataset:
    """Opens the segmentation images of a year, and checks their XML files."""
    dataset = dict(type='VOCDataset', pipeline=[], test_mode=True)
    dataset['ann_file'] = str(root / f'ImageSets/Segmentation/{split}.txt')
    dataset['data_prefix'] = dict(sub_data_root=str(root))
    sampler = dict(type='DefaultSampler', shuffle=False)
    loader = dict(batch_size=1, sampler=sampler, dataset=dataset)
    cfg = dict(default_scope='mmdet', test_dataloader=loader)
    return build_dataset(Config(cfg))


def convert(
    devkit: Path, years: list[str], split: str
) -> tuple[dict, Counter, list[str]]:
    """Converts the segmentation images of some years.

    Args:
        devkit: Folder with ``VOC2007`` and so on.
        years: Years of VOC.
        split: A list in ``ImageSets/Segmentation``.

    Returns:
        Annotations in COCO's format, counts of objects by what became of
        them, and the disagreements.
    """
    images, annotations, problems, counts = [], [], [], Counter()
    infos = []
    for year in years:
        dataset = open_year(devkit / f'VOC{year}', split)
        found = map(dataset.get_data_info, range(len(dataset)))
        infos += [(f'VOC{year}', info) for info in found]
    for year, info in track_iter_progress(infos):
        name = info['img_id']
        if '2007' in years and name.startswith('2007_'):
            continue
        instances, classes = read_masks(devkit / year, info)
        height, width = instances.shape
        file_name = f'{year}/JPEGImages/{name}.jpg'
        image = dict(id=len(images) + 1, file_name=file_name)
        images.append(dict(image, width=width, height=height))
        objects = find_objects(instances, classes, info['instances'])
        for index, category, box, mask, fate, problem in objects:
            if problem:
                label = CLASSES[category - 1] if category else 'unknown'
                place = f'{year}: image {name}, object {index} ({label})'
                problems.append(f'{place}: {problem}')
            if not category:
                continue
            counts[fate] += 1
            rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            rle['counts'] = rle['counts'].decode()
            one = dict(id=len(annotations) + 1, image_id=image['id'])
            one.update(category_id=category, bbox=list(box), segmentation=rle)
            one.update(area=int(mask.sum()), iscrowd=int(fate != 'used'))
            annotations.append(one)
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    content = dict(images=images, annotations=annotations)
    return dict(content, categories=categories), counts, problems


def read_masks(root: Path, info: dict) -> list[np.ndarray]:
    """Reads the indices of objects and the classes of pixels, (H, W) each."""
    with Image.open(info['img_path']) as image:
        sizes = [image.size]
    masks = []
    for kind in ('Object', 'Class'):
        path = root / f'Segmentation{kind}/{info["img_id"]}.png'
        with Image.open(path) as image:
            if image.mode not in ('P', 'L'):
                raise ValueError(
                    f'{path}: pixels must be indices (a palette image), not '
                    f'{image.mode}'
                )
            sizes.append(image.size)
            masks.append(np.array(image))
    if len(set(sizes)) > 1:
        raise ValueError(
            f'{info["img_path"]} and its masks have different sizes: '
            f'{", ".join(f"{w}×{h}" for w, h in sizes)}'
        )
    return masks


def find_objects(
    instances: np.ndarray, classes: np.ndarray, nodes: list[dict]
) -> Iterator[tuple]:
    """Yields index, category, box, mask, fate and problem of each object.

    Args:
        instances: Indices of objects, (H, W).
        classes: Categories, (H, W).
        nodes: Of the XML file, as MMDetection reads them.
    """
    count = max(len(nodes), int(instances[instances != VOID].max(initial=0)))
    for index in range(1, count + 1):
        mask = instances == index
        fate, problem = 'used', None
        if index <= len(nodes):
            node = nodes[index - 1]
            x1, y1, x2, y2 = node['bbox']  # the last pixel is inside
            box = (x1, y1, x2 - x1 + 1, y2 - y1 + 1)
            category = node['bbox_label'] + 1
            if node['ignore_flag']:
                fate = 'difficult'
            problem = find_problem(category, box, mask, instances, classes)
            if not mask.any():
                mask[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1] = True
        elif mask.any():
            category, box = find_category(classes[mask]), find_box(mask)
            problem = 'a mask without a box'
        else:
            continue  # an index that was left out
        if problem:
            fate = 'disagree'
        yield index, category, box, mask, fate, problem


def find_problem(category, box, mask, instances, classes):
    """Says how box and mask of an object disagree, if they do."""
    if not mask.any():
        return 'a box without a mask'
    kernel = np.ones((2 * BORDER + 1,) * 2, np.uint8)
    near = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
    seen = find_box(mask | (near & (instances == VOID)))
    iou = coco_mask.iou(np.array([box]), np.array([seen]), [0]).item()
    if iou < MIN_IOU:
        return f'box and mask overlap with IoU {iou:.2f}'
    found = find_category(classes[mask])
    if found != category:
        name = CLASSES[found - 1] if found else 'no class'
        return f'in SegmentationClass it is {name}'
    return None


def find_category(values):
    """The class most pixels have, or None if that is background or void."""
    value = int(np.bincount(values).argmax())
    return value if 1 <= value <= len(CLASSES) else None


def find_box(mask):
    return cv2.boundingRect(mask.astype(np.uint8))


def main():
    args = parse_args()
    content, counts, problems = convert(args.devkit, args.years, args.split)
    years = ''.join(year[2:] for year in args.years)
    name = f'annotations/instances_voc{years}_{args.split}.json'
    out = args.out or args.devkit / name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content))
    print('', *problems, sep='\n')
    print(
        f'{out}: {len(content["images"])} images, {counts["used"]} objects; '
        f'ignored: {counts["difficult"]} difficult, {len(problems)} '
        'whose box and mask disagree'
    )


if __name__ == '__main__':
    run_main(main)
