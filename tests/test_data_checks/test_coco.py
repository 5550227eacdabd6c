"""Files of COCO's format: their images, their order, what is left of them."""

import re
from pathlib import Path

import pytest
from findings import LOADERS, change_file, first, leaves, put, reverse, say
from mmdet.registry import DATASETS

TRAIN = LOADERS[:1]


@pytest.fixture
def train(coco):
    return leaves(coco)[0]


@pytest.fixture
def file(train):
    return Path(train.data_root, train.ann_file)


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'is empty'),
        (b'\n', 'is empty'),
        (b'{"images": [', 'is not whole JSON, cut off or damaged: Expecting'),
        (b'\xef\xbb\xbf{}', r'starts with a byte order mark \(BOM\)'),
        ('{}'.encode('utf-16'), 'is not UTF-8'),
        (b'[' * 100_000, 'is nested too deep'),
    ],
)
def test_unreadable_file_is_named(coco, file, content, message):
    file.write_bytes(content)
    assert re.match(f"E train: '{file}' {message}", say(coco, TRAIN))


def test_images_are_there_maybe_in_subfolders(coco, train, file):
    folder = file.parents[1] / 'train2017'
    (folder / 'part').mkdir()

    def move(content):
        image = content['images'][0]
        old = folder / image['file_name']
        image['file_name'] = f'part/{old.name}'
        old.rename(folder / image['file_name'])

    change_file(train, move)
    assert say(coco, TRAIN) == ''
    gone = sorted(folder.glob('*.jpg'))[:2]
    for path in gone:
        path.unlink()
    assert re.match(
        rf'N train: image \S+{gone[0].name}.*2 of 6 are miss', say(coco, TRAIN)
    )


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
def test_boxes_that_mmdet_leaves_out_are_counted(coco, train, file, values):
    content = change_file(train, first('annotations', **values))
    count = len(content['annotations'])
    assert say(coco, TRAIN) == (
        f'W train: {str(file)!r} has boxes without area or outside of their '
        f'image, which are left out: 1 of {count}: annotation 101 (image '
        '000000000001.jpg)'
    )
    items = DATASETS.build(train).load_data_list()  # as the host does
    assert sum(len(item['instances']) for item in items) == count - 1


def test_many_are_counted_and_the_first_named(coco, train):
    def change(content):
        for box in content['annotations'][1:]:
            box['bbox'] = [0, 0, 0, 0]

    count = len(change_file(train, change)['annotations'])
    message = say(coco, TRAIN)
    assert f'{count - 1} of {count}: annotation 102 ' in message
    assert message.count('(image') == 3 and message.endswith(', …')


@pytest.mark.parametrize(
    'boxes, rules', [({}, dict(min_size=10_000)),
                     (dict(annotations=[]), dict(filter_empty_gt=True))],
)  # fmt: skip
def test_filter_that_leaves_nothing_is_named(coco, train, boxes, rules):
    change_file(train, lambda content: content.update(boxes))
    train.filter_cfg = rules
    assert re.match(
        r"E train: .*filter_cfg=\{'.*\} leaves none of its 6 images",
        say(coco, TRAIN),
    )


def test_formats_of_other_readers_are_left_to_them(coco, train):
    train.type = 'CocoPanopticDataset'
    change_file(train, put('annotations', [dict(id=1, segments_info=[])]))
    assert say(coco, TRAIN) == ''


def test_order_that_differs_in_val_alone_is_to_be_sorted_there(coco):
    change_file(coco.val_dataloader.dataset, reverse)
    assert re.fullmatch(
        'E val: .*sort its categories: circle, ring, square, star, triangle',
        say(coco),
    )
    # a subset of the categories, and the order that is asked for
    for leaf in leaves(coco):
        leaf.metainfo.classes = ('star', 'ring')
    assert re.match("E train: .*write classes=.'ring', 'star'.", say(coco))
    for leaf in leaves(coco):
        leaf.metainfo.classes = ('ring', 'star')
    assert re.fullmatch('E val: .*sort its categories: ring, star', say(coco))


def test_a_second_file_of_another_order_is_named(coco):
    one = coco.train_dataloader.dataset.dataset
    two = dict(coco.val_dataloader.dataset)
    coco.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[one, two]
    )
    assert say(coco, LOADERS[:1]) == ''
    change_file(coco.val_dataloader.dataset, reverse)
    assert re.fullmatch(
        'E train: .*val2017.*sort its.*', say(coco, LOADERS[:1])
    )


def test_images_without_annotations_may_be_trained_on(coco, train):
    """As of semi-supervised training."""
    change_file(train, put('annotations', []))
    train.pipeline = [dict(type='LoadEmptyAnnotations')]
    assert say(coco) == ''
