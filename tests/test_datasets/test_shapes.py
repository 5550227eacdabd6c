import hashlib
import json
from unittest import mock

import cv2
import numpy as np
import pytest
from tool_runs import run_tool

from mmba2m.datasets import shapes as generator
from mmba2m.datasets.shapes import CLASSES, make_scene, make_shapes

PARAMS = dict(num_train=12, num_val=30, seed=3)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', **PARAMS)


@pytest.fixture(scope='module')
def scenes():
    return [make_scene(0, 'train', i, 128) for i in range(120)]


def own_scenes(split):
    """The scenes of ``root``, with their ids."""
    first = dict(train=1, val=100_001)[split]
    numbers = range(PARAMS[f'num_{split}'])
    return {first + i: make_scene(3, split, i, 128) for i in numbers}


def boxes_of(scene):
    masks = scene.owner == np.arange(1, len(scene.labels) + 1)[:, None, None]
    return masks, [cv2.boundingRect(mask.astype(np.uint8)) for mask in masks]


def digests(folder):
    files = [path for path in folder.rglob('*') if path.is_file()]
    contents = [hashlib.md5(path.read_bytes()).digest() for path in files]
    names = [str(path.relative_to(folder)) for path in files]
    return dict(zip(names, contents, strict=True))


def test_scene_is_known_by_seed_split_and_index():
    one, same = (make_scene(5, 'train', 7, 128) for _ in range(2))
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.owner, same.owner)
    assert (one.labels, one.areas) == (same.labels, same.areas)
    for other in ((6, 'train', 7), (5, 'val', 7), (5, 'train', 8)):
        assert not np.array_equal(one.owner, make_scene(*other, 128).owner)


def test_every_shape_is_in_sight_and_stands_out(scenes):
    parts = []
    for scene in scenes:
        assert scene.owner.max() == len(scene.labels) == len(scene.areas)
        for number, area in enumerate(scene.areas, 1):
            mask = (scene.owner == number).astype(np.uint8)
            assert mask.sum() >= generator.MIN_PIXELS
            parts.append(mask.sum() / area)
            around = cv2.dilate(mask, np.ones((5, 5), np.uint8)) - mask
            inside = scene.image[mask > 0].mean(0)
            outside = scene.image[around > 0].mean(0)
            assert np.linalg.norm(inside - outside) > 10
    assert min(parts) >= generator.MIN_VISIBLE and max(parts) == 1
    assert 0.3 < np.mean(np.array(parts) < 0.99) < 0.8  # hidden or cut off


def test_area_of_a_shape_counts_what_lies_outside():
    for name in CLASSES:
        (whole, area), (half, same) = (
            generator._draw_shape(np.random.default_rng(0), name, at, 40, 96)
            for at in (48 + 48j, 48j)
        )
        assert area == same == (whole >= 0.5).sum()
        assert 0.3 * area < (half >= 0.5).sum() < 0.7 * area


def test_scenes_are_varied(scenes):
    counts = np.bincount([len(scene.labels) for scene in scenes])
    assert counts[:2].sum() == 0 and (counts[2:] > 0).all()
    assert len(counts) == 7
    labels = np.bincount([k for scene in scenes for k in scene.labels])
    assert len(labels) == 5 and (labels > 0.1 * labels.sum()).all()
    areas = np.array([area for scene in scenes for area in scene.areas])
    assert 0.05 < (areas >= 32**2).mean() < 0.5  # COCO's medium
    boxes = [box for scene in scenes for box in boxes_of(scene)[1]]
    assert 0.05 < np.mean([0 in box[:2] for box in boxes]) < 0.4


def test_same_parameters_same_bytes_and_more_images_keep_the_first(
    root, tmp_path
):
    few = digests(root)
    assert few == digests(make_shapes(tmp_path / 'again', **PARAMS))
    more = make_shapes(tmp_path / 'more', 14, 31, seed=3, formats=['coco'])
    assert {path.name for path in more.iterdir()} == {'coco', 'shapes.json'}
    many = digests(more)
    images = [k for k in few if k.startswith('coco') and 'jpg' in k]
    assert len(images) == 42 == len({few[name] for name in images})
    assert all(few[name] == many[name] for name in images)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_mmdet_reads_coco(root, split):
    pytest.importorskip('mmdet')
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    dataset = CocoDataset(
        data_root=str(root / 'coco'),
        ann_file=f'annotations/instances_{split}2017.json',
        data_prefix=dict(img=f'{split}2017/'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        pipeline=[],
    )
    load = LoadAnnotations(with_bbox=True, with_mask=True)
    for info, (number, scene) in zip(
        dataset, own_scenes(split).items(), strict=True
    ):
        assert info['img_id'] == number
        assert (info['height'], info['width']) == (128, 128)
        masks, boxes = boxes_of(scene)
        for one, label, (x, y, w, h) in zip(
            info['instances'], scene.labels, boxes, strict=True
        ):
            assert one['bbox'] == [x, y, x + w, y + h]
            assert (one['bbox_label'], one['ignore_flag']) == (label, 0)
        loaded = load({**info, 'ori_shape': (128, 128)})
        assert np.array_equal(loaded['gt_masks'].masks, masks)
    path = root / f'coco/annotations/instances_{split}2017.json'
    annotations = json.loads(path.read_text())['annotations']
    masks = [boxes_of(scene)[0] for scene in own_scenes(split).values()]
    areas = [mask.sum() for own in masks for mask in own]
    assert [one['area'] for one in annotations] == areas


def test_rle_of_a_mask_that_starts_with_one():
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    for one, counts in ((mask, [0, 2, 1, 1, 2]), (~mask, [2, 1, 1, 2])):
        rle = generator._encode_rle(one)
        assert rle == {'size': [2, 3], 'counts': counts}


def test_crops_lie_in_the_folder_that_mmpretrain_reads(root):
    for split in ('train', 'val'):
        folder = root / 'imagefolder' / split
        found = {path.name: path.parent.name for path in folder.rglob('*.jpg')}
        assert found == {
            f'{number:012d}_{k}.jpg': CLASSES[label]
            for number, scene in own_scenes(split).items()
            for k, label in enumerate(scene.labels, 1)
        }
        assert sorted(p.name for p in folder.iterdir()) == list(CLASSES)
    datasets = pytest.importorskip('mmpretrain.datasets')
    dataset = datasets.CustomDataset(
        data_root=str(root / 'imagefolder'), data_prefix='train', pipeline=[]
    )
    assert tuple(dataset.CLASSES) == CLASSES
    labels = [k for s in own_scenes('train').values() for k in s.labels]
    assert sorted(dataset.get_gt_labels()) == sorted(labels)


def test_crop_is_centred_on_its_object():
    for scene in own_scenes('train').values():
        for mask, box in zip(*boxes_of(scene), strict=True):
            image = np.repeat(255 * mask[..., None].astype(np.uint8), 3, 2)
            crop = generator._crop(image, box)
            assert crop.shape == (64, 64, 3)
            # outside the image it is 128, the object is 255
            found = (crop[..., 0] > 200).astype(np.uint8)
            x, y, w, h = cv2.boundingRect(found)
            assert abs(x + w / 2 - 32) <= 3 and abs(y + h / 2 - 32) <= 3
            assert 64 / 1.4 - 5 <= max(w, h) <= 64 / 1.4 + 2


# made whole, found again, or refused


def test_the_same_data_set_is_found_another_refused(tmp_path):
    target = tmp_path / 'disk/shapes'
    target.mkdir(parents=True)  # an empty folder is used, a link is kept
    link = tmp_path / 'shapes'
    link.symlink_to(target)
    assert make_shapes(link, 2, 1) == target and link.is_symlink()
    times = {p: p.stat().st_mtime_ns for p in target.rglob('*')}
    assert make_shapes(link, 2, 1) == target
    with pytest.raises(FileExistsError, match=r'shapes\.json'):
        make_shapes(link, 2, 1, seed=1)
    assert times == {p: p.stat().st_mtime_ns for p in target.rglob('*')}


def test_an_exception_leaves_nothing_behind(tmp_path, monkeypatch):
    interrupt = mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(generator, '_save', interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / 'shapes', 2, 1)
    assert list(tmp_path.iterdir()) == []


def test_bad_argument_is_named(tmp_path):
    for argument, value, named in (
        ('num_train', 0, 'got 0'),
        ('num_train', 100_000, '99999, got 100000'),
        ('num_val', 2.5, 'got 2.5'),
        ('size', 63, '64 to 1024, got 63'),
        ('seed', -1, 'got -1'),
        ('formats', ['coco', 'yolo'], 'yolo'),
        ('formats', [], 'some of'),
    ):
        with pytest.raises(ValueError, match=rf'{argument} .*{named}'):
            make_shapes(tmp_path / 'shapes', **{argument: value})
        assert list(tmp_path.iterdir()) == []


def test_tool(tmp_path):
    tool = 'dataset_converters/make_shapes.py'
    options = ['--num-train=2', '--num-val=1', '--size=64', '--seed=7']
    text = run_tool(tool, tmp_path / 'a/shapes', *options)
    assert text.endswith(f'shapes: {tmp_path / "a/shapes"}\n')
    image = cv2.imread(f'{tmp_path}/a/shapes/coco/train2017/{2:012d}.jpg')
    scene = make_scene(7, 'train', 1, 64)
    assert np.abs(image.astype(int) - scene.image).mean() < 6
    (tmp_path / 'notes.txt').write_text('mine')
    text = run_tool(tool, tmp_path, fails=True)
    assert text.startswith(f'make_shapes: {tmp_path} holds something else')
    assert (tmp_path / 'notes.txt').read_text() == 'mine'
