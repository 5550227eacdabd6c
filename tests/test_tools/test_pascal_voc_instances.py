import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask
from tool_runs import ROOT, run_tool

CONFIG = 'configs/pascal_voc/mask-rcnn_ba2m-r50_fpn_2x_voc0712.py'
PERSON, DOG, BIRD = 15, 12, 3
NAMES = {PERSON: 'person', DOG: 'dog', BIRD: 'bird'}

pytest.importorskip('mmdet')


def convert(*args, **kwargs):
    return run_tool(
        'dataset_converters/pascal_voc_instances.py', *args, **kwargs
    )


def write_image(root, name, split, size, boxes, pixels):
    """Writes an image of a VOC tree.

    ``boxes`` are (class, box as in the XML, difficult); ``pixels`` are (index,
    class, x1, y1, x2, y2), drawn in this order.
    """
    folders = ['Annotations', 'ImageSets/Segmentation', 'JPEGImages']
    for folder in [*folders, 'SegmentationClass', 'SegmentationObject']:
        (root / folder).mkdir(parents=True, exist_ok=True)
    instances, classes = np.zeros((2, size[1], size[0]), np.uint8)
    for index, category, x1, y1, x2, y2 in pixels:
        instances[y1:y2, x1:x2] = index
        classes[y1:y2, x1:x2] = category
    for kind, values in (('Object', instances), ('Class', classes)):
        image = Image.fromarray(values)
        image.putpalette([i * 37 % 256 for i in range(768)])
        image.save(root / f'Segmentation{kind}/{name}.png')
    photo = np.stack([instances * 60, classes * 12, 255 - instances * 40], -1)
    Image.fromarray(photo).save(root / f'JPEGImages/{name}.jpg')
    objects = ''.join(
        f'<object><name>{NAMES[category]}</name>'
        f'<difficult>{int(difficult)}</difficult>'
        f'<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>'
        f'<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        for category, (x1, y1, x2, y2), difficult in boxes
    )
    (root / f'Annotations/{name}.xml').write_text(
        f'<annotation>{objects}</annotation>'
    )
    with open(root / f'ImageSets/Segmentation/{split}.txt', 'a') as stream:
        stream.write(f'{name}\n')


@pytest.fixture
def devkit(tmp_path):
    """Two images: one in order, one with every kind of disagreement."""
    root = tmp_path / 'devkit'
    boxes = [
        (PERSON, (11, 6, 30, 25), False),
        (DOG, (21, 16, 40, 45), False),
        (BIRD, (51, 31, 60, 40), True),
    ]
    pixels = [
        (1, PERSON, 10, 5, 30, 25),
        (255, 255, 20, 15, 40, 45),  # a border of 3 pixels around the dog
        (2, DOG, 23, 18, 37, 42),
        (3, BIRD, 50, 30, 60, 40),
    ]
    voc = root / 'VOC2007'
    write_image(voc, '000007', 'trainval', (64, 48), boxes, pixels)
    boxes = [
        (PERSON, (1, 1, 20, 20), False),
        (DOG, (31, 1, 50, 20), False),
        (BIRD, (1, 31, 10, 40), False),
    ]
    pixels = [
        (1, PERSON, 0, 10, 20, 30),  # IoU of 200 and 600 pixels
        (2, BIRD, 30, 0, 50, 20),  # a bird for a dog
        (4, DOG, 40, 40, 50, 60),  # no box; and 3 has no pixels
    ]
    voc = root / 'VOC2012'
    write_image(voc, '2012_000001', 'trainval', (60, 60), boxes, pixels)
    return root


def read(devkit, name='instances_voc0712_trainval'):
    return json.loads((devkit / f'annotations/{name}.json').read_text())


def test_objects_become_annotations_and_disagreements_are_ignored(devkit):
    lines = convert(devkit).splitlines()
    content = read(devkit)
    # id, file_name, width, height
    assert [(*image.values(),) for image in content['images']] == [
        (1, 'VOC2007/JPEGImages/000007.jpg', 64, 48),
        (2, 'VOC2012/JPEGImages/2012_000001.jpg', 60, 60),
    ]
    names = {one['id']: one['name'] for one in content['categories']}
    assert list(names) == list(range(1, 21))
    assert {i: names[i] for i in NAMES} == NAMES
    annotations = content['annotations']
    assert [a['category_id'] for a in annotations[:3]] == list(NAMES)
    assert [a['iscrowd'] for a in annotations] == [0, 0, 1, 1, 1, 1, 1]
    # from 1, inclusive, to the edges of pixels
    assert annotations[0]['bbox'] == [10, 5, 20, 20]
    assert annotations[1]['bbox'] == [20, 15, 20, 30]
    expected = np.zeros((48, 64), bool)
    expected[5:25, 10:30] = True
    expected[15:25, 20:30] = False  # the dog's border belongs to none
    mask = coco_mask.decode(annotations[0]['segmentation']).astype(bool)
    assert (mask == expected).all()
    assert [a['area'] for a in annotations[:2]] == [300, 14 * 24]

    image = 'VOC2012: image 2012_000001, object'
    assert lines[-5:-1] == [
        f'{image} 1 (person): box and mask overlap with IoU 0.33',
        f'{image} 2 (dog): in SegmentationClass it is bird',
        f'{image} 3 (bird): a box without a mask',
        f'{image} 4 (dog): a mask without a box',
    ]
    assert lines[-1].endswith(
        'instances_voc0712_trainval.json: 2 images, 2 objects; ignored: '
        '1 difficult, 4 whose box and mask disagree'
    )
    found = [a['category_id'] for a in annotations[3:]]
    assert found == [PERSON, DOG, BIRD, DOG]
    # what lacks a mask gets its box, and what lacks a box that of its mask
    assert annotations[5]['area'] == 100
    assert annotations[6]['bbox'] == [40, 40, 10, 20]


def test_images_of_2007_are_taken_once_and_none_of_its_test_set(devkit):
    # VOC 2012 lists what was 000007 (trainval) and 000068 (test) in 2007
    for name in ('2007_000007', '2007_000068'):
        box = [(DOG, (1, 1, 10, 10), False)]
        pixels = [(1, DOG, 0, 0, 10, 10)]
        voc = devkit / 'VOC2012'
        write_image(voc, name, 'trainval', (32, 32), box, pixels)
    convert(devkit)
    files = [Path(i['file_name']).stem for i in read(devkit)['images']]
    assert files == ['000007', '2012_000001']
    convert(devkit, '--years', '2012')
    assert len(read(devkit, 'instances_voc12_trainval')['images']) == 3


def test_border_counts_when_box_and_mask_are_compared(tmp_path):
    # without its border, the mask has 36 of the 100 pixels of its box
    box = [(DOG, (11, 11, 20, 20), False)]
    pixels = [(255, 255, 10, 10, 20, 20), (1, DOG, 12, 12, 18, 18)]
    write_image(tmp_path / 'VOC2007', '1', 'val', (32, 32), box, pixels)
    text = convert(tmp_path, '--years', '2007', '--split', 'val')
    assert '1 objects; ignored: 0 difficult, 0' in text
    (annotation,) = read(tmp_path, 'instances_voc07_val')['annotations']
    assert (annotation['area'], annotation['iscrowd']) == (36, 0)


def test_config_reads_them(devkit, monkeypatch):
    from mmdet.registry import DATASETS

    convert(devkit)
    monkeypatch.setenv('VOC_ROOT', str(devkit))
    cfg = Config.fromfile(ROOT / CONFIG)
    init_default_scope('mmdet')
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline = dataset.pipeline[:2]  # only load
    results = DATASETS.build(dataset)[0]
    assert results['gt_masks'].areas.tolist() == [300, 336, 100]
    assert results['gt_ignore_flags'].tolist() == [False, False, True]
    # classes count from 0 here
    labels = [PERSON - 1, DOG - 1, BIRD - 1]
    assert results['gt_bboxes_labels'].tolist() == labels
    assert results['gt_bboxes'].tensor[0].tolist() == [10, 5, 30, 25]


def redraw(change):
    return lambda path: change(Image.open(path)).save(path)


MASK = 'SegmentationObject/000007.png'


@pytest.mark.parametrize(
    'file, damage, message',
    [
        (MASK, Path.unlink, '/000007.png'),
        (
            MASK,
            redraw(lambda image: image.convert('RGB')),
            '000007.png: pixels must be indices',
        ),
        (
            MASK,
            redraw(lambda image: image.resize((32, 24))),
            '000007.jpg and its masks have different sizes: 64×48, 32×24, 64×',
        ),
        (
            'Annotations/000007.xml',
            lambda path: path.write_text(path.read_text()[:-9]),
            "000007.xml' is not whole XML",
        ),
    ],
)
def test_bad_input_is_named(devkit, file, damage, message):
    damage(devkit / 'VOC2007' / file)
    text = convert(devkit, '--years', '2007', fails=True)
    assert text.splitlines()[-1].startswith('pascal_voc_instances: ')
    assert message in text
    assert not (devkit / 'annotations').exists()
