"""What people's exports and configs get wrong, after public reports.

Each row is a kind of mistake with its neighbours: what changes in a small
data set, and what is then said, ``E`` for errors and ``W`` for warnings.
"""

import json
import re
from pathlib import Path

import pytest

from mmba2m.data_checks import check_data
from mmba2m.data_checks.check_data import find_problems
from mmba2m.datasets import SHAPES_CLASSES

LOADERS = ('train_dataloader', 'val_dataloader')


def say(cfg, loaders=LOADERS):
    """What is found, a line each, as ``E train: …``."""
    return '\n'.join(
        f'{"E" if isinstance(found, Exception) else "W"} '
        f'{name.split("_")[0]}: {found}'
        for name, found in find_problems(cfg, loaders)
    )


def change_file(dataset, change):
    file = Path(dataset.data_root, dataset.ann_file)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def leaves(cfg):
    return cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset


def each(kind, **values):
    """Sets keys of all entries; a function is of the old value."""

    def change(content):
        for entry in content[kind]:
            for key, value in values.items():
                call = callable(value)
                entry[key] = value(entry.get(key)) if call else value

    return change


def first(kind, **values):
    return lambda content: content[kind][0].update(values)


def drop(kind, key):
    return lambda content: [entry.pop(key) for entry in content[kind]]


def put(key, value):
    return lambda content: content.update({key: value})


def reverse(content):
    content['categories'].reverse()


def as_corners(content):
    for one in content['annotations']:
        x, y, w, h = one['bbox']
        one['bbox'] = [x, y, x + w, y + h]


def as_shares(content):
    each('annotations', bbox=lambda b: [v / 64 for v in b])(content)


def split_image(content):
    """The last image once more, with the second of its objects."""
    image = content['images'][-1]
    copy = dict(image, id=900, file_name=f'./{image["file_name"]}')
    content['images'].append(copy)
    own = [a for a in content['annotations'] if a['image_id'] == image['id']]
    own[-1]['image_id'] = 900


def repeat_image(content):
    copy = dict(content['images'][-1], id=900)
    old = copy['id'], content['images'][-1]['id']
    content['images'].append(copy)
    content['annotations'] += [
        dict(box, id=-box['id'], image_id=old[0])
        for box in content['annotations']
        if box['image_id'] == old[1]
    ]


ANN = 'annotations'
NONE = r'no object to (train on|find) in \d images: of (\d+), \2 '
COCO = {
    # kind: change, what is said of train, what is said of val
    'order': (reverse, 'E label 0 is .triangle. there and .circle. in the '
              r"config; write classes=\('triangle', 'star'", 'E write'),
    'no_objects': (put(ANN, []), 'E no object to train', 'E no object'),
    'crowd': (each(ANN, iscrowd=1), f'E {NONE}with iscr', f'E {NONE}'),
    'crowd_true': (each(ANN, iscrowd=True), f'E {NONE}', f'E {NONE}'),
    'crowd_text': (each(ANN, iscrowd='0'), "E 101 .*iscrowd '0', which is "
                   'neither', 'E neither 0 nor 1'),
    'crowd_null': (each(ANN, iscrowd=None), '', 'E .iscrowd.: write 0'),
    'crowd_none': (drop(ANN, 'iscrowd'), '', "E without 'iscrowd': write 0"),
    'ignored': (each(ANN, ignore=1), f'E {NONE}with ignore', 'E no obj'),
    'shares': (as_shares, 'E all boxes within 0…1', 'E within 0…1'),
    'corners': (as_corners, r'E most boxes reaching beyond.* \d+ of \d+',
                'E as left, top, right, bottom'),
    'id_0': (first(ANN, id=0), '', 'W annotation of id 0.*Count from 1'),
    'id_text': (each(ANN, id=str), '', r"E that are no numbers. .* \d+ of"),
    'id_mixed': (first(ANN, id='a'), '', "E no numbers.* 1 of \\d+: 'a'"),
    'id_null': (first(ANN, id=None), 'E id None, which is no number', 'E'),
    'image_id_text': (each(ANN, image_id=str), 'W an id that is text.*\nE .*'
                      f'{NONE}of images not listed', 'W \nE .*'),
    'image_id_list': (first(ANN, image_id=[1]), r'E 101 .* image_id \[1\]',
                      'E no id'),
    'category_null': (first(ANN, category_id=None), 'E 101 .*id None, which '
                      'its categories do not list', 'E not list'),
    'area_null': (first(ANN, area=None), 'E 101 .*area None', 'E area'),
    'area_nan': (first(ANN, area=float('nan')), 'E 101 .*area nan', 'E area'),
    **{
        f'bbox_{value}': (first(ANN, bbox=value), r'E annotation 101 \(image '
                          r'0+1.jpg\) has the bbox .*, .*four finite',
                          'E bbox')
        for value in ([float('nan'), 0, 5, 5], [0, 0, float('inf'), 5], None,
                      [0, 0, 5], ['0', '0', '5', '5'])
    },
    'huge': (first(ANN, bbox=[0, 0, 10**400, 5]), 'E 101 .*bbox', 'E bbox'),
    'huge_area': (first(ANN, area=1e11), 'E 101 .*area 1', 'E area 1'),
    'split_image': (split_image, "E under the ids 6 and 900 with different",
                    'E objects of the other as background'),
    'repeated_image': (repeat_image, r'W counts twice \(1 images', 'W twice'),
    **{
        f'width_{value}': (first('images', width=value), rf"E image 1 "
                           rf"\(0+1.jpg\) has the width '?{value}", 'E width')
        for value in (0, -1, float('nan'), '64', None)
    },
    'width_float': (each('images', width=float, height=float), '', ''),
    'file_name_empty': (first('images', file_name=''), "E file_name ''", 'E'),
    'file_name_null': (first('images', file_name=None), 'E _name None', 'E'),
    'file_name_number': (first('images', file_name=7), 'E _name 7', 'E'),
    'file_name_folder': (first('images', file_name='.'), 'E is a folder', 'E'),
    'null_list': (put(ANN, None), "E 'annotations' is no list: None", 'E'),
    'categories_map': (put('categories', {'1': 'a'}), 'E no list: ', 'E'),
    'null_entry': (put(ANN, [None]), 'E one of the annotations is None', 'E'),
    'no_name': (drop('categories', 'name'), "E category 1 .*no 'name'", 'E'),
    'name_null': (first('categories', name=None), 'E 1 has the name N', 'E'),
    'no_images': (put('images', []), 'E lists no images', 'E'),
}  # fmt: skip


def assert_said(coco, expected):
    lines = say(coco).splitlines()
    for split, pattern in zip(('train', 'val'), expected, strict=True):
        text = '\n'.join(x for x in lines if x[2:].startswith(split))
        text = text.replace(f' {split}:', '')
        pattern = pattern and f'{pattern[0]} .*{pattern[2:]}.*'
        assert re.fullmatch(pattern, text, re.S), text


@pytest.mark.parametrize('kind', COCO)
def test_coco(coco, kind):
    change, *expected = COCO[kind]
    for dataset in leaves(coco):
        change_file(dataset, change)
    assert_said(coco, expected)


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


def test_train_and_val_have_the_same_classes(coco):
    coco.val_dataloader.dataset.metainfo.classes = SHAPES_CLASSES[:3]
    assert re.fullmatch(
        'E val: its classes are circle, ring, square, but those of the.*',
        say(coco),
    )


MASKS = {
    # the segmentation: what is said of train, and of val
    'missing': (None, 'E annotation 101 .*has no mask', 'E no mask'),
    'empty': ([], 'E no mask', 'E no mask'),
    'flat': ([1, 1, 9, 1, 9, 9], 'E no list of polygons', 'E no list'),
    'text': ('1 1 9', 'E text for a mask', 'E text for'),
    'numbers_text': ([['1'] * 6], 'E what is no number', 'E no number'),
    'nan': ([[float('nan')] * 6], 'E what is no number', 'E no number'),
    'four': ([[1, 1, 9, 9]], r'W out: 1 of \d+: .*of 4 numbers', 'E of 4'),
    'none_in_it': ([[]], 'W polygon of 0', 'E polygon of 0'),
    'odd': ([[1, 1, 9, 1, 9, 9, 9]], 'W polygon of 7', 'E polygon of 7'),
    'other_size': (dict(counts='0', size=[9, 64]), 'E height and width '
                   '.9, 64., not .64, 64.', 'E width'),
    'no_counts': (dict(size=[64, 64]), 'W without counts', 'E without'),
    'rle': (dict(counts=[0, 4096], size=[64, 64]), '', ''),
    'two_parts': ([[1, 1, 9, 1, 9, 9], [2, 2, 5, 5]], '', ''),
}  # fmt: skip


@pytest.mark.parametrize('kind', MASKS)
def test_masks_where_they_are_wanted(coco, kind):
    value, *expected = MASKS[kind]
    for leaf in leaves(coco):
        change_file(leaf, first(ANN, segmentation=value))
    assert say(coco) == ''  # nobody wants them
    leaves(coco)[0].pipeline = [dict(type='LoadAnnotations', with_mask=True)]
    coco.val_evaluator.metric = ['bbox', 'segm']
    assert_said(coco, expected)


def test_several_sets_are_not_scored_as_one(coco):
    val = coco.val_dataloader.dataset
    coco.val_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[val, val]
    )
    metric = coco.val_evaluator
    assert re.fullmatch('E val: it has 2 data sets.*MultiDatas.*', say(coco))
    coco.val_evaluator = dict(
        type='MultiDatasetsEvaluator',
        metrics=[metric, metric],
        dataset_prefixes=['a', 'b'],
    )
    assert say(coco) == ''
    coco.val_evaluator = dict(type='VOCMetric')
    assert say(coco) == 'W val: its 2 data sets are scored as one'
    coco.val_dataloader.dataset = [val, val]
    assert re.fullmatch('E val: its dataset is a list.*Concat.*', say(coco))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(model=dict(bbox_head=dict(num_classes=80))),
         r'E train: model.bbox_head.num_classes is 80, but the data have 5 .*'
         r'\nE val: .*'),
        (dict(model=dict(roi_head=dict(mask_head=[dict(num_classes=9)]))),
         r'E train: model.roi_head.mask_head.0.num_classes is 9.*\nE val.*'),
        (dict(model=dict(rpn_head=dict(num_classes=1))), ''),
        (dict(train_dataloader=dict(drop_last=True, batch_size=13)),
         'E train: drop_last leaves no batch: batch_size is 13.* 12 images'),
        (dict(train_dataloader=dict(drop_last=True, batch_size=12)), ''),
        (dict(train_cfg=dict(max_epochs=24), param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=96),
            dict(type='MultiStepLR', by_epoch=True, milestones=[8, 11])]),
         'W train: the warm-up lasts 96 iterations, but the 12 images make 12 '
         'in an epoch, and after 96 .* set param_scheduler.0.end to 9'),
        (dict(train_cfg=dict(max_epochs=24), param_scheduler=dict(
            type='LinearLR', start_factor=0.1, by_epoch=False, end=96)), ''),
    ],
)  # fmt: skip
def test_config(coco, settings, message):
    coco.train_dataloader.dataset.times = 2
    coco.train_dataloader.update(settings.get('train_dataloader', {}))
    coco.update({k: v for k, v in settings.items() if 'loader' not in k})
    assert re.fullmatch(message, say(coco))


def test_what_lies_elsewhere_is_left_to_its_backend(coco):
    leaf = coco.train_dataloader.dataset.dataset
    leaf.update(data_root='/nowhere', backend_args=dict(backend='petrel'))
    assert say(coco, LOADERS[:1]) == ''
    del leaf['backend_args']
    assert re.match("E train: data_root '/nowhere' is no fold", say(coco))
    coco.data_checks = False
    check_data(coco, LOADERS)


def test_images_elsewhere_leave_the_annotations_to_be_checked(coco):
    leaf = coco.val_dataloader.dataset
    leaf.data_prefix.img = 'in_a_database'
    load = dict(type='LoadImageFromFile', backend_args=dict(backend='lmdb'))
    leaf.pipeline = [load]
    assert say(coco) == ''
    change_file(leaf, reverse)
    assert re.match('E val: .*another order', say(coco))


def test_types_may_be_classes(coco):
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation import CocoMetric

    coco.val_dataloader.dataset.type = CocoDataset
    coco.val_evaluator.type = CocoMetric
    change_file(coco.val_dataloader.dataset, first(ANN, id=0))
    assert re.match('W val: .*id 0', say(coco))


def test_deep_json_is_named(coco):
    file = coco.val_evaluator.ann_file
    Path(file).write_text('[' * 100_000)
    assert re.fullmatch(f"E val: '{file}' is nested too deep", say(coco))


def test_images_without_annotations_may_be_trained_on(coco):
    """As of semi-supervised training."""
    leaf = coco.train_dataloader.dataset.dataset
    change_file(leaf, put(ANN, []))
    leaf.pipeline = [dict(type='LoadEmptyAnnotations')]
    assert say(coco) == ''
