import hashlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmba2m.datasets import shapes, shapes_files, shapes_formats
from mmba2m.datasets.shapes import CLASSES, make_scene
from mmba2m.datasets.shapes_files import make_shapes

PARAMS = dict(num_train=12, num_val=30, seed=3)
DEFAULT_SCENES = 120


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', **PARAMS)


@pytest.fixture(scope='module')
def scenes():
    return [make_scene(0, 'train', i) for i in range(DEFAULT_SCENES)]


def own_scenes(split):
    count = PARAMS[f'num_{split}']
    return [make_scene(PARAMS['seed'], split, i) for i in range(count)]


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def coco_dataset(root, split):
    mmdet_datasets = pytest.importorskip('mmdet.datasets')
    return mmdet_datasets.CocoDataset(
        data_root=str(root / 'coco'),
        ann_file=f'annotations/instances_{split}2017.json',
        data_prefix=dict(img=f'{split}2017/'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        pipeline=[],
    )


def voc_dataset(root, split):
    mmdet_datasets = pytest.importorskip('mmdet.datasets')
    return mmdet_datasets.VOCDataset(
        data_root=str(root / 'VOCdevkit'),
        ann_file=f'VOC2007/ImageSets/Main/{split}.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        pipeline=[],
    )


# scenes


def test_scene_is_known_by_seed_split_and_index():
    one, same = make_scene(5, 'train', 7), make_scene(5, 'train', 7)
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.owner, same.owner)
    assert one.shapes == same.shapes
    for other in (
        make_scene(6, 'train', 7),
        make_scene(5, 'val', 7),
        make_scene(5, 'train', 8),
    ):
        assert not np.array_equal(one.owner, other.owner)


def test_shapes_are_measured_on_their_pixels(scenes):
    for scene in scenes:
        assert scene.owner.max() == len(scene.shapes)
        for number, shape in enumerate(scene.shapes, start=1):
            mask = (scene.owner == number).astype(np.uint8)
            assert cv2.boundingRect(mask) == shape.bbox
            assert cv2.countNonZero(mask) == shape.area


def test_every_shape_is_in_sight(scenes):
    every = [shape for scene in scenes for shape in scene.shapes]
    assert min(s.visible for s in every) >= shapes.MIN_VISIBLE
    assert max(s.visible for s in every) == 1.0
    assert min(s.area for s in every) >= shapes.MIN_PIXELS


def test_visible_fraction_counts_what_is_hidden_and_what_is_outside():
    disc = np.zeros((8, 8), np.float32)
    disc[2:6, 2:6] = 1.0
    # Columns 2 to 5 of the patch are columns -1 to 2 of the image.
    patch = shapes._Patch(label=0, x=-3, y=10, alpha=disc)
    where, alpha = patch.clip(32)
    owner = np.zeros((32, 32), np.uint8)
    owner[where][alpha >= 0.5] = 1
    owner[12, :] = 2  # hides one of its four rows
    shape = shapes._describe(patch, owner == 1)
    assert shape.bbox == (0, 13, 3, 3)
    assert shape.area == 9
    assert shape.visible == 9 / 16


def test_scenes_are_varied(scenes):
    counts = np.bincount([len(scene.shapes) for scene in scenes])
    assert counts[:2].sum() == 0 and (counts[2:] > 0).all()
    assert len(counts) == 7
    every = [shape for scene in scenes for shape in scene.shapes]
    labels = np.bincount([s.label for s in every], minlength=len(CLASSES))
    assert (labels > 0.1 * len(every)).all()
    areas = np.array([s.area for s in every])
    assert 0.05 < (areas >= 32**2).mean() < 0.5  # COCO's medium
    covered = np.mean([s.visible < 0.99 for s in every])
    assert 0.3 < covered < 0.8
    at_border = [0 in s.bbox[:2] for s in every]
    assert 0.05 < np.mean(at_border) < 0.4


def test_objects_stand_out(scenes):
    # Each differs from what is around it by more than the noise.
    for scene in scenes[:40]:
        for number, shape in enumerate(scene.shapes, start=1):
            mask = (scene.owner == number).astype(np.uint8)
            around = cv2.dilate(mask, np.ones((5, 5), np.uint8)) - mask
            inside = scene.image[mask > 0].mean(0)
            outside = scene.image[around > 0].mean(0)
            assert np.linalg.norm(inside - outside) > 10, shape


@pytest.mark.parametrize(
    'split, index', [('test', 0), ('train', -1), ('val', 99_999)]
)
def test_unknown_scene_is_named(split, index):
    wanted = 'test' if split == 'test' else str(index)
    with pytest.raises(ValueError, match=wanted):
        make_scene(0, split, index)


# files


def test_same_seed_gives_the_same_bytes(root, tmp_path):
    again = make_shapes(tmp_path / 'again', **PARAMS)
    assert digests(root) == digests(again)


def test_more_images_leave_the_first_ones_alone(root, tmp_path):
    more = make_shapes(
        tmp_path / 'more', num_train=14, num_val=31, seed=3, formats='coco'
    )
    few, many = digests(root), digests(more)
    images = [name for name in few if name.startswith('coco/train2017')]
    images += [name for name in few if name.startswith('coco/val2017')]
    assert len(images) == 42
    assert all(few[name] == many[name] for name in images)


def test_no_image_is_in_both_splits(root):
    images = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (root / 'coco').rglob('*.jpg')
    ]
    assert len(images) == 42 == len(set(images))


def test_formats_share_their_images(root):
    for split in ('train', 'val'):
        for path in (root / 'coco' / f'{split}2017').iterdir():
            name = f'{int(path.stem):06d}.jpg'
            voc = root / 'VOCdevkit/VOC2007/JPEGImages' / name
            assert voc.read_bytes() == path.read_bytes()


def test_jpeg_shows_the_scene(root):
    scene = own_scenes('val')[0]
    path = root / 'coco/val2017' / f'{scene.image_id:012d}.jpg'
    difference = cv2.imread(str(path)).astype(int) - scene.image
    assert np.abs(difference).mean() < 6


def test_images_are_copied_where_links_are_not_possible(tmp_path, monkeypatch):
    def no_link(*_):
        raise OSError('links are not supported')

    monkeypatch.setattr(shapes_formats.os, 'link', no_link)
    root = make_shapes(tmp_path / 'shapes', num_train=1, num_val=1)
    one = root / 'coco/train2017/000000000001.jpg'
    two = root / 'VOCdevkit/VOC2007/JPEGImages/000001.jpg'
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_ino != two.stat().st_ino


# COCO


def test_coco_boxes_are_tight_on_the_masks(root):
    coco_api = pytest.importorskip('pycocotools.coco')
    for split in ('train', 'val'):
        path = root / f'coco/annotations/instances_{split}2017.json'
        coco = coco_api.COCO(str(path))
        for scene in own_scenes(split):
            ids = coco.getAnnIds(imgIds=[scene.image_id])
            assert len(ids) == len(scene.shapes)
            for number, ann in enumerate(coco.loadAnns(ids), start=1):
                mask = coco.annToMask(ann)
                assert np.array_equal(mask, scene.owner == number)
                assert list(cv2.boundingRect(mask)) == ann['bbox']
                assert mask.sum() == ann['area']
                shape = scene.shapes[number - 1]
                category = coco.loadCats(ann['category_id'])[0]
                assert category['name'] == CLASSES[shape.label]


def test_rle_of_a_mask_that_starts_with_one():
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    rle = shapes_formats.encode_rle(mask)
    assert rle == {'size': [2, 3], 'counts': [0, 2, 1, 1, 2]}
    rle = shapes_formats.encode_rle(~mask)
    assert rle == {'size': [2, 3], 'counts': [2, 1, 1, 2]}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_mmdet_reads_coco(root, split):
    dataset = coco_dataset(root, split)
    scenes = own_scenes(split)
    assert len(dataset) == len(scenes)
    for index, scene in enumerate(scenes):
        info = dataset.get_data_info(index)
        assert info['img_id'] == scene.image_id
        assert Path(info['img_path']).is_file()
        assert (info['height'], info['width']) == (128, 128)
        for found, shape in zip(info['instances'], scene.shapes, strict=True):
            x, y, w, h = shape.bbox
            assert found['bbox'] == [x, y, x + w, y + h]
            assert found['bbox_label'] == shape.label
            assert found['ignore_flag'] == 0


def test_mmdet_loads_masks(root):
    transforms = pytest.importorskip('mmdet.datasets.transforms')
    dataset = coco_dataset(root, 'val')
    load = transforms.LoadAnnotations(with_bbox=True, with_mask=True)
    for index, scene in enumerate(own_scenes('val')):
        info = dataset.get_data_info(index)
        loaded = load({**info, 'ori_shape': scene.owner.shape})
        masks = loaded['gt_masks'].masks
        expected = [scene.owner == k + 1 for k in range(len(scene.shapes))]
        assert np.array_equal(masks, np.array(expected))


def coco_ap(root, metrics, predict):
    """Evaluate ``predict(scene)``: boxes (x0, y0, x1, y1), labels, masks."""
    evaluation = pytest.importorskip('mmdet.evaluation')
    torch = pytest.importorskip('torch')
    path = root / 'coco/annotations/instances_val2017.json'
    metric = evaluation.CocoMetric(str(path), metric=metrics)
    metric.dataset_meta = dict(classes=CLASSES)
    scenes = own_scenes('val')
    for scene in scenes:
        boxes, labels, masks = predict(scene)
        prediction = dict(
            bboxes=torch.from_numpy(boxes),
            scores=torch.linspace(1, 0.1, len(boxes)),
            labels=torch.from_numpy(labels),
        )
        if masks is not None:
            prediction['masks'] = torch.from_numpy(masks)
        sample = dict(
            img_id=scene.image_id,
            ori_shape=scene.owner.shape,
            pred_instances=prediction,
        )
        metric.process({}, [sample])
    return metric.evaluate(len(scenes))


def test_ground_truth_as_prediction_is_perfect(root):
    def truth(scene):
        boxes = np.array([s.bbox for s in scene.shapes], float)
        boxes[:, 2:] += boxes[:, :2]
        numbers = np.arange(len(boxes))[:, None, None] + 1
        labels = np.array([s.label for s in scene.shapes])
        return boxes, labels, scene.owner[None] == numbers

    result = coco_ap(root, ['bbox', 'segm'], truth)
    assert result['coco/bbox_mAP'] == 1.0
    assert result['coco/segm_mAP'] == 1.0


def test_chance_finds_nothing(root):
    rng = np.random.default_rng(0)

    def chance(scene):
        centre = rng.uniform(0, 128, (100, 2))
        half = rng.uniform(8, 32, (100, 2))
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        labels = rng.integers(len(CLASSES), size=100)
        return boxes.clip(0, 128), labels, None

    assert coco_ap(root, ['bbox'], chance)['coco/bbox_mAP_50'] < 0.02


# Pascal VOC


def test_voc_boxes_count_from_one(root):
    for scene in own_scenes('train'):
        path = f'VOCdevkit/VOC2007/Annotations/{scene.image_id:06d}.xml'
        objects = ET.parse(root / path).getroot().findall('object')
        for node, shape in zip(objects, scene.shapes, strict=True):
            box = [int(v.text) for v in node.find('bndbox')]
            x, y, w, h = shape.bbox
            assert box == [x + 1, y + 1, x + w, y + h]
            assert min(box) >= 1 and max(box) <= 128
            assert node.find('name').text == CLASSES[shape.label]
            assert node.find('difficult').text == '0'
            cut = node.find('truncated').text == '1'
            assert cut == (shape.visible < 0.85)


@pytest.mark.parametrize(
    'voc_split, coco_split', [('trainval', 'train'), ('test', 'val')]
)
def test_mmdet_reads_voc_as_coco(root, voc_split, coco_split):
    voc = voc_dataset(root, voc_split)
    coco = coco_dataset(root, coco_split)
    assert len(voc) == len(coco)
    for index in range(len(voc)):
        a, b = voc.get_data_info(index), coco.get_data_info(index)
        assert int(a['img_id']) == b['img_id']
        assert Path(a['img_path']).is_file()
        for one, two in zip(a['instances'], b['instances'], strict=True):
            x0, y0, x1, y1 = two['bbox']
            # MMDetection keeps VOC's last pixel where COCO has the border.
            assert one['bbox'] == [x0, y0, x1 - 1, y1 - 1]
            assert one['bbox_label'] == two['bbox_label']
            assert one['ignore_flag'] == 0


def test_voc_lists(root):
    lists = {
        name: (root / f'VOCdevkit/VOC2007/ImageSets/Main/{name}.txt')
        .read_text()
        .split()
        for name in ('train', 'val', 'trainval', 'test')
    }
    assert sorted(lists['train'] + lists['val']) == lists['trainval']
    assert lists['val'] == ['000005', '000010']
    assert lists['trainval'] == [f'{i:06d}' for i in range(1, 13)]
    assert lists['test'] == [f'{i:06d}' for i in range(100001, 100031)]


def test_voc_masks_agree_with_the_scene(root):
    for scene in own_scenes('val'):
        name = f'{scene.image_id:06d}.png'
        voc = root / 'VOCdevkit/VOC2007'
        objects = Image.open(voc / 'SegmentationObject' / name)
        assert objects.mode == 'P'
        # The colours of aeroplane, bicycle and the border in Pascal VOC.
        palette = objects.getpalette()
        assert palette[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        assert palette[-3:] == [224, 224, 192]
        assert np.array_equal(np.array(objects), scene.owner)
        classes = np.array(Image.open(voc / 'SegmentationClass' / name))
        for number, shape in enumerate(scene.shapes, start=1):
            assert (classes[scene.owner == number] == shape.label + 1).all()
        assert (classes[scene.owner == 0] == 0).all()


# ImageFolder


def test_crops_lie_in_the_folder_of_their_class(root):
    for split in ('train', 'val'):
        folder = root / 'imagefolder' / split
        found = {path.name: path.parent.name for path in folder.rglob('*.jpg')}
        expected = {
            f'{scene.image_id:012d}_{number}.jpg': CLASSES[shape.label]
            for scene in own_scenes(split)
            for number, shape in enumerate(scene.shapes, start=1)
        }
        assert found == expected
        assert sorted(p.name for p in folder.iterdir()) == list(CLASSES)


def test_crop_is_centred_on_its_object(root):
    scene = own_scenes('train')[0]
    for number, shape in enumerate(scene.shapes, start=1):
        name = f'{scene.image_id:012d}_{number}.jpg'
        folder = root / 'imagefolder/train' / CLASSES[shape.label]
        assert cv2.imread(str(folder / name)).shape == (64, 64, 3)
        mask = np.repeat((scene.owner == number)[..., None], 3, axis=2)
        crop = shapes_formats._crop(255 * mask.astype(np.uint8), shape, 64)
        # Outside the image it is 128, the object is 255.
        x, y, w, h = cv2.boundingRect((crop[..., 0] > 200).astype(np.uint8))
        middle = np.array([x + w / 2, y + h / 2])
        assert np.abs(middle - 32).max() <= 2
        assert 64 / 1.4 - 4 <= max(w, h) <= 64 / 1.4 + 2


def test_mmpretrain_reads_the_folder(root):
    datasets = pytest.importorskip('mmpretrain.datasets')
    dataset = datasets.CustomDataset(
        data_root=str(root / 'imagefolder'), data_prefix='train', pipeline=[]
    )
    scenes = own_scenes('train')
    assert tuple(dataset.CLASSES) == CLASSES
    labels = [s.label for scene in scenes for s in scene.shapes]
    assert sorted(dataset.get_gt_labels()) == sorted(labels)


# made whole, reused, or refused


@pytest.fixture
def small(tmp_path):
    return dict(out_dir=tmp_path / 'shapes', num_train=2, num_val=1)


def test_the_same_data_set_is_reused(small):
    folder = make_shapes(**small)
    times = {p: p.stat().st_mtime_ns for p in folder.rglob('*')}
    calls = []
    assert make_shapes(**small, progress=lambda *a: calls.append(a)) == folder
    assert calls == []
    assert times == {p: p.stat().st_mtime_ns for p in folder.rglob('*')}


def test_another_data_set_is_refused_and_overwritten_on_demand(small):
    folder = make_shapes(**small)
    before = digests(folder)
    with pytest.raises(FileExistsError, match='seed is 0, not 1') as error:
        make_shapes(**small, seed=1)
    assert '\n' not in str(error.value)
    assert digests(folder) == before
    make_shapes(**small, seed=1, overwrite=True)
    assert digests(folder) != before
    assert json.loads((folder / 'shapes.json').read_text())['seed'] == 1
    assert [p.name for p in folder.parent.iterdir()] == ['shapes']


def test_missing_files_are_noticed(small):
    folder = make_shapes(**small)
    before = digests(folder)
    next((folder / 'coco/train2017').iterdir()).unlink()
    with pytest.raises(FileExistsError, match='files are missing'):
        make_shapes(**small)
    make_shapes(**small, overwrite=True)
    assert digests(folder) == before


@pytest.mark.parametrize('where', ['shapes', 'shapes.part', 'shapes.old'])
@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_of_somebody_else_is_never_replaced(small, where, overwrite):
    foreign = small['out_dir'].with_name(where)
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('years of work')
    (foreign / 'shapes.json').write_text('{"generator": "another"}')
    with pytest.raises(FileExistsError, match='not made by this generator'):
        make_shapes(**small, overwrite=overwrite)
    assert (foreign / 'thesis.txt').read_text() == 'years of work'


def test_an_empty_folder_is_used(small):
    small['out_dir'].mkdir()
    assert (make_shapes(**small) / 'shapes.json').is_file()


def test_a_linked_folder_keeps_its_link(small, tmp_path):
    target = tmp_path / 'disk' / 'shapes'
    target.mkdir(parents=True)
    small['out_dir'].symlink_to(target)
    assert make_shapes(**small) == target
    assert small['out_dir'].is_symlink()
    assert (small['out_dir'] / 'shapes.json').is_file()


def test_an_exception_leaves_nothing_behind(small):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(**small, progress=interrupt)
    assert list(small['out_dir'].parent.iterdir()) == []


def test_an_exception_leaves_the_older_data_set(small):
    def interrupt(done, total):
        raise KeyboardInterrupt

    before = digests(make_shapes(**small))
    with pytest.raises(KeyboardInterrupt):
        make_shapes(**small, seed=1, overwrite=True, progress=interrupt)
    assert digests(small['out_dir']) == before


def test_a_killed_process_is_not_taken_for_a_finished_one(small):
    code = (
        'import os, sys\n'
        'from mmba2m.datasets import make_shapes\n'
        'make_shapes(sys.argv[1], 2, 1, progress=lambda *_: os._exit(9))\n'
    )
    command = [sys.executable, '-c', code, str(small['out_dir'])]
    repo = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=repo, timeout=120).returncode == 9
    names = [p.name for p in small['out_dir'].parent.iterdir()]
    assert names == ['shapes.part']
    make_shapes(**small)
    names = [p.name for p in small['out_dir'].parent.iterdir()]
    assert names == ['shapes']


def test_formats_can_be_chosen(small):
    folder = make_shapes(**small, formats=['voc', 'voc'])
    names = sorted(p.name for p in folder.iterdir())
    assert names == ['VOCdevkit', 'shapes.json']


@pytest.mark.parametrize(
    'argument, value, named',
    [
        ('num_train', 0, 'got 0'),
        ('num_train', 100_000, '99999, got 100000'),
        ('num_val', -4, 'got -4'),
        ('num_val', 2.5, 'got 2.5'),
        ('size', 63, '64 to 1024, got 63'),
        ('size', True, 'got True'),
        ('crop_size', 8, '16 to 512, got 8'),
        ('seed', -1, 'got -1'),
        ('formats', ['coco', 'yolo'], "got 'yolo'"),
        ('formats', [], 'got none'),
    ],
)
def test_bad_argument_is_named(tmp_path, argument, value, named):
    with pytest.raises(ValueError, match=named) as error:
        make_shapes(tmp_path / 'shapes', **{argument: value})
    assert argument in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('size', [64, 1024])
def test_extreme_sizes(tmp_path, size):
    folder = make_shapes(tmp_path / 's', 2, 1, size=size, formats='coco')
    path = folder / 'coco/train2017/000000000001.jpg'
    assert cv2.imread(str(path)).shape == (size, size, 3)
    scene = make_scene(0, 'train', 0, size)
    assert len(scene.shapes) >= 2


def test_version_is_part_of_the_parameters(small, monkeypatch):
    make_shapes(**small)
    monkeypatch.setattr(shapes_files, 'VERSION', shapes_files.VERSION + 1)
    with pytest.raises(FileExistsError, match='version is 1, not 2'):
        make_shapes(**small)
