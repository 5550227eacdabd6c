import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tool_runs import run_tool

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/dataset_converters/pascal_voc_instances.py'
CONFIG = 'configs/pascal_voc/mask-rcnn_ba2m-r50_fpn_2x_voc0712.py'
PERSON, DOG, BIRD = 15, 12, 3
NAMES = {PERSON: 'person', DOG: 'dog', BIRD: 'bird'}

pytest.importorskip('mmdet')


@pytest.fixture(scope='module')
def main():
    return runpy.run_path(str(TOOL))['main']


def write_image(root, name, split, size, boxes, pixels):
    """Writes an image of a VOC tree.

    ``boxes`` are (class, box as in the XML, difficult); ``pixels`` are (index,
    class, x1, y1, x2, y2), drawn in this order.
    """
    folders = ['Annotations', 'ImageSets/Segmentation', 'JPEGImages']
    for folder in [*folders, 'SegmentationClass', 'SegmentationObject']:
        (root / folder).mkdir(parents=True, exist_ok=True)
    width, height = size
    instances = np.zeros((height, width), np.uint8)
    classes = np.zeros((height, width), np.uint8)
    for index, category, x1, y1, x2, y2 in pixels:
        instances[y1:y2, x1:x2] = index
        classes[y1:y2, x1:x2] = category
    for folder, values in (
        ('SegmentationObject', instances),
        ('SegmentationClass', classes),
    ):
        image = Image.fromarray(values)
        image.putpalette([i * 37 % 256 for i in range(768)])
        image.save(root / folder / f'{name}.png')
    photo = np.stack([instances * 60, classes * 12, 255 - instances * 40], -1)
    Image.fromarray(photo).save(root / f'JPEGImages/{name}.jpg')
    objects = ''.join(
        f'<object><name>{NAMES.get(category, category)}</name>'
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
    return instances


@pytest.fixture
def devkit(tmp_path):
    """Two images: one in order, one with every kind of disagreement."""
    root = tmp_path / 'devkit'
    write_image(
        root / 'VOC2007',
        '000007',
        'trainval',
        (64, 48),
        [
            (PERSON, (11, 6, 30, 25), False),
            (DOG, (21, 16, 40, 45), False),
            (BIRD, (51, 31, 60, 40), True),
        ],
        [
            (1, PERSON, 10, 5, 30, 25),
            (255, 255, 20, 15, 40, 45),  # a border of 3 pixels around the dog
            (2, DOG, 23, 18, 37, 42),
            (3, BIRD, 50, 30, 60, 40),
        ],
    )
    write_image(
        root / 'VOC2012',
        '2012_000001',
        'trainval',
        (60, 60),
        [
            (PERSON, (1, 1, 20, 20), False),
            (DOG, (31, 1, 50, 20), False),
            (BIRD, (1, 31, 10, 40), False),
        ],
        [
            (1, PERSON, 0, 10, 20, 30),  # IoU of 200 and 600 pixels
            (2, BIRD, 30, 0, 50, 20),  # a bird for a dog
            (4, DOG, 40, 40, 50, 60),  # no box; and 3 has no pixels
        ],
    )
    return root


def read(devkit, name='instances_voc0712_trainval'):
    return json.loads((devkit / f'annotations/{name}.json').read_text())


def test_objects_become_annotations(main, devkit):
    main([str(devkit)])
    content = read(devkit)
    assert content['images'] == [
        dict(
            id=1,
            file_name='VOC2007/JPEGImages/000007.jpg',
            width=64,
            height=48,
        ),
        dict(
            id=2,
            file_name='VOC2012/JPEGImages/2012_000001.jpg',
            width=60,
            height=60,
        ),
    ]
    names = [category['name'] for category in content['categories']]
    assert len(names) == 20
    assert [names[i - 1] for i in NAMES] == list(NAMES.values())
    assert [category['id'] for category in content['categories']] == list(
        range(1, 21)
    )
    person, dog, bird = content['annotations'][:3]
    assert [a['category_id'] for a in (person, dog, bird)] == list(NAMES)
    assert [a['iscrowd'] for a in (person, dog, bird)] == [0, 0, 1]
    # from 1, inclusive, to the edges of pixels
    assert person['bbox'] == [10, 5, 20, 20]
    assert dog['bbox'] == [20, 15, 20, 30]
    expected = np.zeros((48, 64), bool)
    expected[5:25, 10:30] = True
    expected[15:25, 20:30] = False  # the dog's border belongs to none
    mask = coco_mask.decode(person['segmentation']).astype(bool)
    assert (mask == expected).all()
    assert person['area'] == 300
    assert dog['area'] == 14 * 24


def test_disagreements_are_named_and_ignored(main, devkit, capsys):
    main([str(devkit)])
    lines = capsys.readouterr().out.splitlines()
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
    annotations = read(devkit)['annotations'][3:]
    assert [a['iscrowd'] for a in annotations] == [1, 1, 1, 1]
    assert [a['category_id'] for a in annotations] == [PERSON, DOG, BIRD, DOG]
    # what lacks a mask gets its box, and what lacks a box that of its mask
    assert annotations[2]['area'] == 100
    assert annotations[3]['bbox'] == [40, 40, 10, 20]


def test_images_of_2007_are_taken_once_and_none_of_its_test_set(
    main, devkit, capsys
):
    # VOC 2012 lists what was 000007 (trainval) and 000068 (test) in 2007
    for name in ('2007_000007', '2007_000068'):
        write_image(
            devkit / 'VOC2012',
            name,
            'trainval',
            (32, 32),
            [(DOG, (1, 1, 10, 10), False)],
            [(1, DOG, 0, 0, 10, 10)],
        )
    main([str(devkit)])
    files = [Path(i['file_name']).stem for i in read(devkit)['images']]
    assert files == ['000007', '2012_000001']
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith('left out: 2 images of VOC 2007')
    )
    main([str(devkit), '--years', '2012'])
    content = read(devkit, 'instances_voc12_trainval')
    assert len(content['images']) == 3


def test_border_counts_when_box_and_mask_are_compared(main, tmp_path, capsys):
    # without its border, the mask has 36 of the 100 pixels of its box
    write_image(
        tmp_path / 'VOC2007',
        '1',
        'val',
        (32, 32),
        [(DOG, (11, 11, 20, 20), False)],
        [(255, 255, 10, 10, 20, 20), (1, DOG, 12, 12, 18, 18)],
    )
    main([str(tmp_path), '--years', '2007', '--split', 'val'])
    assert '1 objects; ignored: 0 difficult, 0' in capsys.readouterr().out
    (annotation,) = read(tmp_path, 'instances_voc07_val')['annotations']
    assert (annotation['area'], annotation['iscrowd']) == (36, 0)


def test_ground_truth_as_predictions_scores_one(main, devkit):
    main([str(devkit)])
    truth = COCO(devkit / 'annotations/instances_voc0712_trainval.json')
    found = [
        dict(annotation, score=0.9)
        for annotation in truth.dataset['annotations']
        if not annotation['iscrowd']
    ]
    for kind in ('bbox', 'segm'):
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)


def test_config_reads_them(main, devkit, monkeypatch):
    from mmdet.registry import DATASETS

    main([str(devkit)])
    monkeypatch.setenv('VOC_ROOT', str(devkit))
    cfg = Config.fromfile(ROOT / CONFIG)
    init_default_scope('mmdet')
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline = dataset.pipeline[:2]  # only load
    results = DATASETS.build(dataset)[0]
    assert results['gt_masks'].areas.tolist() == [300, 336, 100]
    assert results['gt_ignore_flags'].tolist() == [False, False, True]
    # classes count from 0 here
    assert results['gt_bboxes_labels'].tolist() == [
        PERSON - 1,
        DOG - 1,
        BIRD - 1,
    ]
    assert results['gt_bboxes'].tensor[0].tolist() == [10, 5, 30, 25]


def damage(devkit, kind):
    root = devkit / 'VOC2007'
    png = root / 'SegmentationObject/000007.png'
    xml = root / 'Annotations/000007.xml'
    if kind == 'rgb':
        Image.open(png).convert('RGB').save(png)
    elif kind == 'size':
        Image.open(png).resize((32, 24)).save(png)
    elif kind == 'class':
        xml.write_text(xml.read_text().replace('dog', 'dodo'))
    elif kind == 'box':
        xml.write_text(xml.read_text().replace('<xmin>21', '<xmin>221'))
    elif kind == 'cut':
        xml.write_text(xml.read_text()[:100])
    elif kind == 'png':
        png.unlink()
    elif kind == 'empty':
        (root / 'ImageSets/Segmentation/trainval.txt').write_text('')


@pytest.mark.parametrize(
    'kind, message',
    [
        ('rgb', '000007.png: pixels must be indices'),
        ('size', '000007 and its masks have different sizes: 32×24, 64×48'),
        ('class', "000007.xml: 'dodo' is none of the classes of VOC"),
        ('box', '000007.xml: box of a dog is 221.0, 16.0, 40.0, 45.0'),
        ('cut', '000007.xml is not whole XML'),
        ('png', 'SegmentationObject/000007.png'),
        ('empty', 'trainval.txt of 2007 lists no image'),
    ],
)
def test_bad_input_is_named(main, devkit, kind, message):
    damage(devkit, kind)
    with pytest.raises(SystemExit) as error:
        main([str(devkit), '--years', '2007'])
    assert message in str(error.value)
    assert not (devkit / 'annotations').exists()


def test_missing_split_is_named(main, devkit):
    with pytest.raises(SystemExit, match=r'Segmentation/test\.txt'):
        main([str(devkit), '--split', 'test'])


def test_mask_rcnn_trains_and_is_evaluated(main, tmp_path):
    rng = np.random.default_rng(0)
    devkit = tmp_path / 'devkit'
    for year, split, number in (
        ('2007', 'trainval', 2),
        ('2012', 'trainval', 2),
        ('2007', 'test', 2),
    ):
        for i in range(number):
            x, y = (int(v) for v in rng.integers(0, 40, 2))
            write_image(
                devkit / f'VOC{year}',
                f'{split}{i}',
                split,
                (96, 80),
                [(DOG, (x + 1, y + 1, x + 40, y + 36), False)],
                [(1, DOG, x, y, x + 40, y + 36)],
            )
    main([str(devkit)])
    main([str(devkit), '--years', '2007', '--split', 'test'])
    scale = "scale='(96,80)'"
    run_tool(
        'train.py',
        CONFIG,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'model.backbone.init_cfg=None',
        'model.backbone.depth=18',
        'model.backbone.ba2m_cfg.reduction=4',
        'model.neck.in_channels=64,128,256,512',
        'model.test_cfg.rcnn.score_thr=0.0',
        'train_cfg.max_epochs=1',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        f'train_dataloader.dataset.pipeline.2.{scale}',
        f'val_dataloader.dataset.pipeline.1.{scale}',
        'default_hooks.logger.interval=1',
        env={'VOC_ROOT': str(devkit)},
    )
    (scalars,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    masks = [line['loss_mask'] for line in lines if 'loss_mask' in line]
    assert len(masks) == 2  # of two images each
    assert np.isfinite(masks).all() and min(masks) > 0
    assert 0 <= lines[-1]['coco/bbox_mAP'] <= 1
    assert 0 <= lines[-1]['coco/segm_mAP'] <= 1
