"""What COCO's annotations may hold, and what is said of it."""

import json
import warnings
from pathlib import Path

import pytest
from mmdet.registry import DATASETS

from mmba2m.data_checks import check_data

TRAIN = ('train_dataloader',)


@pytest.fixture
def edit(coco):
    """Lets a test change the annotations, and checks them."""
    dataset = coco.train_dataloader.dataset.dataset
    file = Path(dataset.data_root, dataset.ann_file)

    def edit(change, **settings):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        dataset.update(settings)
        check_data(coco, TRAIN)

    edit.file, edit.cfg = file, coco
    return edit


def first(**values):
    """Sets keys of the first annotation."""
    return lambda content: content['annotations'][0].update(values)


def drop(kind, key):
    return lambda content: content[kind][0].pop(key)


# Files


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'is empty'),
        (b'\n', 'is empty'),
        (b'{"images": [', 'is not whole JSON, cut off or damaged: Expecting'),
        (b'\xef\xbb\xbf{}', r'starts with a byte order mark \(BOM\)'),
        ('{}'.encode('utf-16'), 'is not UTF-8'),
    ],
)
def test_unreadable_file_is_named(edit, content, message):
    edit.file.write_bytes(content)
    with pytest.raises(
        ValueError,
        match=rf'train_dataloader: \S+_train2017\.json\S* {message}',
    ):
        check_data(edit.cfg, TRAIN)


def test_missing_image_is_named_and_counted(edit):
    folder = edit.file.parents[1] / 'train2017'
    gone = sorted(folder.iterdir())[:2]
    for path in gone:
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=rf'image \S+{gone[0].name}.*2 of 6 are miss'
    ):
        check_data(edit.cfg, TRAIN)


def test_images_may_lie_in_subfolders(edit):
    folder = edit.file.parents[1] / 'train2017'
    (folder / 'part').mkdir()

    def move(content):
        image = content['images'][0]
        old = folder / image['file_name']
        image['file_name'] = f'part/{old.name}'
        old.rename(folder / image['file_name'])

    edit(move)


# Contradictions


@pytest.mark.parametrize(
    'kind, message',
    [
        ('images', r"two images of id 1: file_name '0+1.jpg' and file_name"),
        ('annotations', r'two annotations of id 101: image_id 1 and image_id'),
        (
            'categories',
            r"two categories of id 1: name 'circle' and name 'ring",
        ),
    ],
)
def test_duplicate_ids_are_named(edit, kind, message):
    def change(content):
        content[kind][1]['id'] = content[kind][0]['id']

    with pytest.raises(
        ValueError, match=rf'_train2017\.json\S* has {message}'
    ):
        edit(change)


def test_class_listed_twice_is_named(edit):
    def change(content):
        content['categories'].append(dict(id=9, name='circle'))

    with pytest.raises(ValueError, match="more than one category 'circle'"):
        edit(change)


def test_category_that_is_not_listed_is_named(edit):
    with pytest.raises(
        ValueError,
        match=r'annotation 101 \(image 0+1\.jpg\) has the category id 77',
    ):
        edit(first(category_id=77))


@pytest.mark.parametrize(
    'change, message',
    [
        (
            drop('annotations', 'bbox'),
            r"annotation 101 \(image_id 1\) has no 'bbox'",
        ),
        (drop('annotations', 'area'), "annotation 101 .* has no 'area'"),
        (drop('annotations', 'id'), "one of the annotations .* has no 'id'"),
        (drop('images', 'width'), r"image 1 \(\S+ '0+1.jpg'\) has no 'width'"),
        (drop('images', 'file_name'), "image 1 .* has no 'file_name'"),
        (lambda content: content.pop('annotations'), "has no 'annotations'"),
        (
            lambda content: content.update(images=[], annotations=[]),
            'lists no images',
        ),
    ],
)
def test_missing_keys_are_named(edit, change, message):
    with pytest.raises(ValueError, match=message):
        edit(change)


# Remarks


@pytest.mark.parametrize(
    'values',
    [
        dict(bbox=[10, 10, 0, 5]),
        dict(bbox=[10, 10, 0.5, 5]),
        dict(bbox=[10, 10, -5, -5]),
        dict(bbox=[500, 10, 5, 5]),
        dict(bbox=[-20, 10, 20, 5]),
        dict(area=0),
    ],
)
def test_boxes_that_mmdet_leaves_out_are_counted(edit, values):
    with pytest.warns(UserWarning, match='left out') as caught:
        edit(first(**values))
    (warning,) = caught
    count = len(json.loads(edit.file.read_text())['annotations'])
    assert str(warning.message) == (
        f'train_dataloader: {str(edit.file)!r} has boxes without area or '
        'outside of their image, which are left out: '
        f'1 of {count}: annotation 101 (image 000000000001.jpg)'
    )
    # as the host does
    dataset = edit.cfg.train_dataloader.dataset.dataset
    left = sum(
        len(item['instances'])
        for item in DATASETS.build(dataset).load_data_list()
    )
    assert left == count - 1


def test_many_are_counted_and_the_first_named(edit):
    def change(content):
        for box in content['annotations'][1:]:
            box['bbox'] = [0, 0, 0, 0]

    with pytest.warns(UserWarning) as caught:
        edit(change)
    message = str(caught[0].message)
    count = len(json.loads(edit.file.read_text())['annotations'])
    assert f'{count - 1} of {count}: annotation 102 ' in message
    assert message.count('(image') == 3 and message.endswith(', …')


def test_metric_counts_what_training_leaves_out(edit, coco):
    root = coco.val_dataloader.dataset
    file = Path(root.data_root, root.ann_file)
    content = json.loads(file.read_text())
    content['annotations'][0]['bbox'] = [0, 0, 0, 0]
    file.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match='val_dataloader: .* as missed: 1 of'):
        check_data(coco, ('val_dataloader',))


def test_annotations_of_unlisted_images_are_counted(edit):
    with pytest.warns(
        UserWarning,
        match=r'does not list.* 1 of \d+: annotation 101 \(image 7',
    ):
        edit(first(image_id=777))


@pytest.mark.parametrize(
    'change',
    [
        first(iscrowd=1),
        first(ignore=1, bbox=[0, 0, 0, 0]),
        first(bbox=[-5, -5, 1000, 1000]),
        lambda content: content.update(annotations=content['annotations'][:1]),
    ],
)
def test_ordinary_oddities_pass_without_a_word(edit, change):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        edit(change)


# Filters


@pytest.mark.parametrize(
    'change, rules',
    [
        (lambda content: None, dict(min_size=10_000)),
        (
            lambda content: content.update(annotations=[]),
            dict(filter_empty_gt=True),
        ),
    ],
)
def test_filter_that_leaves_nothing_is_named(edit, change, rules):
    with pytest.raises(
        ValueError, match=r"filter_cfg=\{'.*\} leaves none of its 6 images"
    ):
        edit(change, filter_cfg=rules)


def test_formats_of_other_readers_are_left_to_them(edit):
    def change(content):
        content['annotations'] = [dict(id=1, segments_info=[])]

    dataset = edit.cfg.train_dataloader.dataset.dataset
    dataset.type = 'CocoPanopticDataset'
    edit(change)
