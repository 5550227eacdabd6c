"""Writes a data set of shapes in Pascal VOC's format as well."""

import json
import shutil


def write_voc(root):
    """Writes ``VOCdevkit/VOC2007`` beside ``coco``, and returns the root.

    Our train is VOC's trainval, our val its test; 000001 is the first image.
    """
    voc = root / 'VOCdevkit/VOC2007'
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (voc / folder).mkdir(parents=True)
    for split, listed in (('train', 'trainval'), ('val', 'test')):
        file = root / f'coco/annotations/instances_{split}2017.json'
        coco = json.loads(file.read_text())
        classes = {one['id']: one['name'] for one in coco['categories']}
        names = [f'{image["id"]:06d}' for image in coco['images']]
        lines = ''.join(f'{name}\n' for name in names)
        (voc / f'ImageSets/Main/{listed}.txt').write_text(lines)
        for name, image in zip(names, coco['images'], strict=True):
            shutil.copy(
                root / f'coco/{split}2017' / image['file_name'],
                voc / f'JPEGImages/{name}.jpg',
            )
            objects = ''
            for one in coco['annotations']:
                if one['image_id'] == image['id']:
                    x, y, w, h = one['bbox']  # VOC counts from 1, inclusive
                    objects += f"""
<object><name>{classes[one['category_id']]}</name><difficult>0</difficult>
<bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>
<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"""
            (voc / f'Annotations/{name}.xml').write_text(
                f'<annotation><filename>{name}.jpg</filename><size>'
                f'<width>{image["width"]}</width>'
                f'<height>{image["height"]}</height><depth>3</depth>'
                f'</size>{objects}</annotation>'
            )
    return root
