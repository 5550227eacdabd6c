"""Files of COCO's format: what people's exports and configs get wrong.

After public reports, each kind of mistake with its neighbours.
"""

import re
from pathlib import Path

import pytest
from findings import (
    LOADERS,
    add_class,
    as_corners,
    change_file,
    drop,
    each,
    first,
    leaves,
    put,
    repeat_id,
    repeat_image,
    reverse,
    say,
    split_image,
)
from mmdet.registry import DATASETS

TRAIN = LOADERS[:1]
ANN = 'annotations'
NAN = float('nan')


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
        (b'[]', 'is a list, no object'),
        (b'{"images": [], "annotations": []}', "has no 'categories'"),
    ],
)
def test_unreadable_file_is_named(coco, file, content, message):
    file.write_bytes(content)
    assert re.match(f"E train: '{file}' {message}", say(coco, TRAIN))


VALUES = {
    # a key of the first entry and values that it may not have: what they are
    ('images', 'id', None): 'no number',
    ('images', 'width', 0, -1, NAN, '64', None): 'no number of pixels',
    ('images', 'file_name', None, 7): 'no text',
    ('categories', 'name', None): 'no text',
    (ANN, 'id', None): 'no number',
    (ANN, 'image_id', (1,)): 'no id',
    (ANN, 'category_id', None, 77): 'which its categories do not list',
    (ANN, 'bbox', None, (0, 0, 5), (NAN, 0, 5, 5), (0, 0, float('inf'), 5),
     ('0', '0', '5', '5'), (0, 0, 10**400, 5)): 'not four finite numbers',
    (ANN, 'area', None, NAN, 1e11): 'no finite number',
}  # fmt: skip


@pytest.mark.parametrize('case', VALUES, ids=lambda case: '.'.join(case[:2]))
def test_values(coco, train, file, case):
    kind, key, *values = case
    name = rf'one of the {kind} \(.*1.*\)|annotation 101 \(image 0+1\.jpg\)'
    start = f"E train: '{file}': ({name}) has"
    for value in values:
        value = [*value] if isinstance(value, tuple) else value
        change_file(train, first(kind, **{key: value}))
        value = re.escape(repr(value)[:90])
        message = f'{start} the {key} {value}.*{VALUES[case]}'
        assert re.fullmatch(message, say(coco, TRAIN))
    change_file(train, drop(kind, key))
    assert re.fullmatch(f'{start} no {key!r}', say(coco, TRAIN))


@pytest.mark.parametrize('kind', ['images', ANN, 'categories'])
def test_lists_of_entries_of_different_ids(coco, train, file, kind):
    whole = file.read_text()
    for change, message in (
        (put(kind, None), f'{kind!r} is no list: None'),
        (put(kind, {'1': 'a'}), f'{kind!r} is no list: '),
        (put(kind, [None]), f'one of the {kind} is None'),
        (repeat_id(kind), rf'one of the {kind} \(id 1.* of another \(id 1'),
    ):
        change_file(train, change)
        assert re.match(f"E train: '{file}': {message}", say(coco, TRAIN))
        file.write_text(whole)


ONE = r'1 of \d+: annotation \d*101 \(image \d+1\.jpg\)'
NONE = r'no object to (train on|find) in \d images: of (\d+), \2 '
COCO = {
    # kind: change, what is said of train, and of val if that differs
    'order': (reverse, 'E label 0 is .triangle. there and .circle. in the '
              r"config; write classes=\('triangle', 'star'"),
    'no_objects': (put(ANN, []), 'E no object to'),
    'crowd': (each(ANN, iscrowd=1), f'E {NONE}with iscrowd'),
    'crowd_text': (each(ANN, iscrowd='0'), "E 01 .*iscrowd '0', which is "
                   'neither 0 nor 1'),
    'crowd_null': (each(ANN, iscrowd=None), '', 'E .iscrowd.: write 0'),
    'crowd_none': (drop(ANN, 'iscrowd'), '', "E without 'iscrowd': write 0"),
    'ignored': (each(ANN, ignore=1), f'E {NONE}with ignore'),
    'shares': (each(ANN, bbox=lambda b: [v / 64 for v in b]),
               'E all boxes within 0…1'),
    'corners': (each(ANN, bbox=as_corners),
                r'E most boxes reaching beyond.*as left.* \d+ of \d+: .*, …'),
    'id_0': (first(ANN, id=0), '', 'W annotation of id 0.*Count from 1'),
    'id_text': (each(ANN, id=str), '', r"E that are no numbers. .* \d+ of"),
    'id_mixed': (first(ANN, id='a'), '', "E no numbers.* 1 of \\d+: 'a'"),
    'image_id_text': (each(ANN, image_id=str), 'W an id that is text.*\nE .*'
                      f'{NONE}of images not listed'),
    'image_id_mixed': (first('images', id='a'), 'W does not list',
                       'W does not list.*\nE .*numbers and text as ids of'),
    'split_image': (split_image, 'E under the ids \\d+ and 900 with different '
                    'boxes.*objects of the other as background'),
    'repeated_image': (repeat_image, r'W counts twice \(1 images'),
    'folder': (first('images', file_name='.'), 'N is a folder'),
    'no_images': (put('images', []), 'E lists no images'),
    'class_twice': (add_class, "E more than one category 'circle'"),
    'not_listed': (first(ANN, image_id=777), r'W does not list.* 1 of \d+: '
                   r'annotation \d+ \(image 777'),
    'flat': (first(ANN, bbox=[0] * 4), f'W left out: {ONE}',
             f'W counted as missed: {ONE}'),
    # oddities that pass without a word; the id is of COCO's own crowds
    **{
        str(number): (change, '')
        for number, change in enumerate([
            first(ANN, id=900100184613),
            first(ANN, iscrowd=1),
            first(ANN, ignore=1, bbox=[0, 0, 0, 0]),
            first(ANN, bbox=[-5, -5, 1000, 1000]),
            each('images', width=float, height=float),
            lambda content: content.update(annotations=content[ANN][:1]),
        ])
    },
}  # fmt: skip


def assert_said(coco, said_of_train, said_of_val=None):
    lines = say(coco).splitlines()
    if said_of_val is None:
        said_of_val = said_of_train
    for split, pattern in (('train', said_of_train), ('val', said_of_val)):
        text = '\n'.join(x for x in lines if x[2:].startswith(split))
        text = text.replace(f' {split}:', '')
        pattern = pattern and f'{pattern[0]} .*{pattern[2:]}.*'
        assert re.fullmatch(pattern, text, re.S), text


@pytest.mark.parametrize('kind', COCO)
def test_what_is_said(coco, kind):
    change, *expected = COCO[kind]
    for dataset in leaves(coco):
        change_file(dataset, change)
    assert_said(coco, *expected)


MASKS = {
    # the segmentation: what is said of train, and of val if that differs
    'missing': (None, 'E annotation \\d*101 .*has no mask'),
    'empty': ([], 'E no mask'),
    'flat': ([1, 1, 9, 1, 9, 9], 'E no list of polygons'),
    'text': ('1 1 9', 'E no list of polygons'),
    'numbers_text': ([['1'] * 6], 'E polygons of finite numbers'),
    'nan': ([[NAN] * 6], 'E polygons of finite numbers'),
    'four': ([[1, 1, 9, 9]], r'W out: 1 of \d+: .*of 4 numbers', 'E of 4'),
    'none_in_it': ([[]], 'W polygon of 0', 'E polygon of 0'),
    'odd': ([[1, 1, 9, 1, 9, 9, 9]], 'W polygon of 7', 'E polygon of 7'),
    'other_size': (dict(counts='0', size=[9, 64]), 'E height and width '
                   '.9, 64., not .64, 64.'),
    'no_counts': (dict(size=[64, 64]), 'W without counts', 'E without'),
    'rle': (dict(counts=[0, 4096], size=[64, 64]), ''),
    'counts': (dict(counts=[0, 4097], size=[64, 64]), 'E up to 4097, not '
               '4096'),
    'counts_text': (dict(counts=['a'], size=[64, 64]), 'E are no numbers'),
    'counts_below_0': (dict(counts=[-5, 4101], size=[64, 64]), 'E from 0'),
    'two_parts': ([[1, 1, 9, 1, 9, 9], [2, 2, 5, 5]], ''),
}  # fmt: skip


@pytest.mark.parametrize('kind', MASKS)
def test_masks_where_they_are_wanted(coco, kind):
    value, *expected = MASKS[kind]
    for leaf in leaves(coco):
        change_file(leaf, first(ANN, segmentation=value))
    assert say(coco) == ''  # nobody wants them
    leaves(coco)[0].pipeline = [dict(type='LoadAnnotations', with_mask=True)]
    coco.val_evaluator.metric = ['bbox', 'segm']
    assert_said(coco, *expected)


def test_images_are_there_maybe_in_subfolders(coco, train, file):
    folder = file.parents[1] / 'train2017'
    (folder / 'part').mkdir()
    (folder / '000000000001.jpg').rename(folder / 'part/a.jpg')
    change_file(train, first('images', file_name='part/a.jpg'))
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


def test_filter_that_leaves_nothing_is_named(coco, train):
    train.filter_cfg = dict(min_size=10_000)
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


def test_images_without_annotations_may_be_trained_on(coco, train):
    """As of semi-supervised training."""
    change_file(train, put('annotations', []))
    train.pipeline = [dict(type='LoadEmptyAnnotations')]
    assert say(coco) == ''
