"""Writes the shape scenes as COCO, Pascal VOC and ImageFolder data sets.

All formats are written from the same scenes and agree to the pixel:

- ``coco/``: ``{train,val}2017/`` and ``annotations/``, named as COCO's files.
  Masks are uncompressed RLE, which is exact and has holes; boxes are the
  masks' tight boxes.
- ``VOCdevkit/VOC2007/``: boxes count pixels from 1, last one included;
  ``truncated`` means that less than 85 % of the shape is in sight. As in
  Pascal VOC, train and val make up trainval, and test is apart from it:
  trainval is our train split (each fifth image of it in val), test our val
  split.
- ``imagefolder/{train,val}/<class>/``: one crop with context per object.
"""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmba2m.datasets.shapes import CLASSES, Scene, Shape

_TRUNCATED_BELOW = 0.85
_VOC_VAL_EVERY = 5
_CONTEXT = 1.4


class Jpeg:
    """An image encoded once and stored, maybe, in several places.

    Args:
        image: (height, width, 3) uint8, BGR.
    """

    def __init__(self, image: np.ndarray):
        done, data = cv2.imencode(
            '.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 93]
        )
        if not done:
            raise RuntimeError('OpenCV could not encode a JPEG image')
        self._data = data.tobytes()
        self._stored: Path | None = None

    def save(self, path: Path) -> None:
        """Write the file, or link it to the copy already written."""
        if self._stored is not None:
            try:
                os.link(self._stored, path)
                return
            except OSError:  # no links on this file system
                pass
        path.write_bytes(self._data)
        self._stored = path


class CocoWriter:
    """Writes scenes in COCO's format.

    Args:
        root: Folder of the data set; ``coco`` is made in it.
    """

    def __init__(self, root: Path):
        self.root = root / 'coco'
        self.splits: dict[str, dict] = {}
        (self.root / 'annotations').mkdir(parents=True)

    def add(self, scene: Scene, jpeg: Jpeg) -> None:
        """Write a scene's image and remember its annotations."""
        images = self.root / f'{scene.split}2017'
        if scene.split not in self.splits:
            images.mkdir()
            self.splits[scene.split] = {'images': [], 'annotations': []}
        content = self.splits[scene.split]
        name = f'{scene.image_id:012d}.jpg'
        jpeg.save(images / name)
        height, width = scene.owner.shape
        content['images'].append(
            {
                'id': scene.image_id,
                'file_name': name,
                'height': height,
                'width': width,
            }
        )
        for number, shape in enumerate(scene.shapes, start=1):
            content['annotations'].append(
                {
                    'id': scene.image_id * 100 + number,
                    'image_id': scene.image_id,
                    'category_id': shape.label + 1,
                    'bbox': list(shape.bbox),
                    'area': shape.area,
                    'segmentation': encode_rle(scene.owner == number),
                    'iscrowd': 0,
                }
            )

    def close(self) -> None:
        """Write the annotation files."""
        # MMDetection numbers the labels in this list's order.
        categories = [
            {'id': label + 1, 'name': name, 'supercategory': 'shape'}
            for label, name in enumerate(CLASSES)
        ]
        info = {'description': 'Shapes of mmba2m', 'version': '1.0'}
        for split, content in self.splits.items():
            path = self.root / 'annotations' / f'instances_{split}2017.json'
            content = {
                'info': info,
                'licenses': [],
                **content,
                'categories': categories,
            }
            path.write_text(json.dumps(content), encoding='utf-8')


class VocWriter:
    """Writes scenes in Pascal VOC's format.

    Args:
        root: Folder of the data set; ``VOCdevkit/VOC2007`` is made in it.
    """

    def __init__(self, root: Path):
        self.root = root / 'VOCdevkit' / 'VOC2007'
        self.ids: dict[str, list[str]] = {
            name: [] for name in ('train', 'val', 'trainval', 'test')
        }
        for folder in (
            'JPEGImages',
            'Annotations',
            'SegmentationObject',
            'SegmentationClass',
            'ImageSets/Main',
            'ImageSets/Segmentation',
        ):
            (self.root / folder).mkdir(parents=True)

    def add(self, scene: Scene, jpeg: Jpeg) -> None:
        """Write a scene's image, XML and masks."""
        name = f'{scene.image_id:06d}'
        jpeg.save(self.root / 'JPEGImages' / f'{name}.jpg')
        tree = ET.ElementTree(_voc_annotation(scene, name))
        ET.indent(tree)
        tree.write(self.root / 'Annotations' / f'{name}.xml')
        of_object = np.array([0] + [s.label + 1 for s in scene.shapes])
        classes = of_object[scene.owner].astype(np.uint8)
        for folder, values in (
            ('SegmentationObject', scene.owner),
            ('SegmentationClass', classes),
        ):
            mask = Image.fromarray(values)
            mask.putpalette(_VOC_PALETTE)
            mask.save(self.root / folder / f'{name}.png')
        if scene.split == 'val':
            self.ids['test'].append(name)
            return
        held_out = scene.image_id % _VOC_VAL_EVERY == 0
        self.ids['val' if held_out else 'train'].append(name)
        self.ids['trainval'].append(name)

    def close(self) -> None:
        """Write the lists of images."""
        for kind in ('Main', 'Segmentation'):
            for split, ids in self.ids.items():
                path = self.root / 'ImageSets' / kind / f'{split}.txt'
                path.write_text(''.join(f'{i}\n' for i in ids))


class ImageFolderWriter:
    """Writes a crop of each object into the folder of its class.

    Args:
        root: Folder of the data set; ``imagefolder`` is made in it.
        crop_size: Side of the square crops in pixels. Default: 64.
    """

    def __init__(self, root: Path, crop_size: int = 64):
        self.root = root / 'imagefolder'
        self.crop_size = crop_size

    def add(self, scene: Scene, jpeg: Jpeg) -> None:
        """Write the crops of a scene's objects."""
        split = self.root / scene.split
        if not split.exists():
            # All of them, or the labels of a small split would be others.
            for name in CLASSES:
                (split / name).mkdir(parents=True)
        for number, shape in enumerate(scene.shapes, start=1):
            crop = _crop(scene.image, shape, self.crop_size)
            name = f'{scene.image_id:012d}_{number}.jpg'
            Jpeg(crop).save(split / CLASSES[shape.label] / name)

    def close(self) -> None:
        """Nothing is left to write."""


WRITERS = {
    'coco': CocoWriter,
    'voc': VocWriter,
    'imagefolder': ImageFolderWriter,
}


def encode_rle(mask: np.ndarray) -> dict:
    """Encode a mask as COCO's uncompressed RLE.

    Args:
        mask: (height, width) bool.

    Returns:
        ``size`` and ``counts``, lengths of runs of 0 and 1 in turn, starting
        with 0, down the columns.
    """
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat[0] else [0]
    counts = np.diff(np.concatenate([start, changes, [flat.size]]))
    return {'size': list(mask.shape), 'counts': counts.astype(int).tolist()}


def _voc_annotation(scene: Scene, name: str) -> ET.Element:
    """Return the XML tree of a scene."""
    height, width = scene.owner.shape
    root = ET.Element('annotation')
    _add(root, folder='VOC2007', filename=f'{name}.jpg')
    _add(ET.SubElement(root, 'source'), database='Shapes of mmba2m')
    _add(ET.SubElement(root, 'size'), width=width, height=height, depth=3)
    _add(root, segmented=1)
    for shape in scene.shapes:
        node = ET.SubElement(root, 'object')
        _add(
            node,
            name=CLASSES[shape.label],
            pose='Unspecified',
            truncated=int(shape.visible < _TRUNCATED_BELOW),
            difficult=0,
        )
        x, y, w, h = shape.bbox
        box = ET.SubElement(node, 'bndbox')
        _add(box, xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h)
    return root


def _add(node: ET.Element, **values: object) -> None:
    """Append a child with a text for each value."""
    for tag, value in values.items():
        ET.SubElement(node, tag).text = str(value)


def _crop(image: np.ndarray, shape: Shape, side: int) -> np.ndarray:
    """Cut a square centred on a box, with context, and resize it."""
    x, y, w, h = shape.bbox
    reach = _CONTEXT * max(w, h) / 2
    scale = side / (2 * reach)
    # Pixel centres: column c of the crop shows x = (c + 0.5) / scale + x0.
    x0, y0 = x + w / 2 - reach, y + h / 2 - reach
    matrix = np.array(
        [
            [scale, 0, (0.5 - x0) * scale - 0.5],
            [0, scale, (0.5 - y0) * scale - 0.5],
        ]
    )
    return cv2.warpAffine(
        image,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR,
        # Grey, for a mirrored or smeared shape would be another one.
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(128, 128, 128),
    )


def _voc_palette() -> list[int]:
    """Return Pascal VOC's 256 RGB colours, one after the other."""
    palette = []
    for index in range(256):
        for channel in range(3):
            bits = [(index >> (3 * k + channel)) & 1 for k in range(8)]
            palette.append(sum(bit << (7 - k) for k, bit in enumerate(bits)))
    return palette


_VOC_PALETTE = _voc_palette()
