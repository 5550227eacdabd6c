"""What people's exports and configs get wrong, after public reports.

Each row is a kind of mistake with its neighbours: what changes in a small
data set, and what is then said, ``E`` for errors and ``W`` for warnings.
"""

import re

import pytest
from findings import change_file, first, leaves, put, reverse, say


def each(kind, **values):
    """Sets keys of all entries; a function is of the old value."""

    def change(content):
        for entry in content[kind]:
            for key, value in values.items():
                call = callable(value)
                entry[key] = value(entry.get(key)) if call else value

    return change


def drop(kind, key):
    return lambda content: [entry.pop(key) for entry in content[kind]]


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


def repeat_id(kind):
    def change(content):
        content[kind][1]['id'] = content[kind][0]['id']

    return change


def add_class(content):
    content['categories'].append(dict(id=9, name='circle'))


ANN = 'annotations'
ONE = r'1 of \d+: annotation 101 \(image 0+1.jpg\)'
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
    # of COCO's own crowds
    'id_crowd': (first(ANN, id=900100184613), '', ''),
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
    'file_name_folder': (first('images', file_name='.'), 'N is a folder', 'N'),
    'null_list': (put(ANN, None), "E 'annotations' is no list: None", 'E'),
    'categories_map': (put('categories', {'1': 'a'}), 'E no list: ', 'E'),
    'null_entry': (put(ANN, [None]), 'E one of the annotations is None', 'E'),
    'no_name': (drop('categories', 'name'), "E category 1 .*no 'name'", 'E'),
    'name_null': (first('categories', name=None), 'E 1 has the name N', 'E'),
    'no_images': (put('images', []), 'E lists no images', 'E'),
    'no_list': (lambda content: content.pop(ANN), "E no 'annotations'", 'E'),
    'no_bbox': (drop(ANN, 'bbox'), r"E annotation 101 \(image_id 1\) has no "
                "'bbox'", "E no 'bbox'"),
    'no_area': (drop(ANN, 'area'), "E annotation 101 .* has no 'area'", 'E'),
    'no_id': (drop(ANN, 'id'), "E one of the annotations .*no 'id'", 'E'),
    'no_width': (drop('images', 'width'), r"E image 1 \(\S+ '0+1.jpg'\) has "
                 "no 'width'", 'E'),
    'no_file_name': (drop('images', 'file_name'), "E image 1 .* has no "
                     "'file_name'", 'E'),
    'images_twice': (repeat_id('images'), "E _train2017.json' has two images "
                     "of id 1: file_name '0+1.jpg' and file_name", 'E'),
    'boxes_twice': (repeat_id(ANN), "E _train2017.json' has two annotations "
                    'of id 101: image_id 1 and image_id', 'E'),
    'categories_twice': (repeat_id('categories'), "E _train2017.json' has two "
                         "categories of id 1: name 'circle' and name 'r", 'E'),
    'class_twice': (add_class, "E more than one category 'circle'", 'E'),
    'category_77': (first(ANN, category_id=77), r'E annotation 101 \(image '
                    r'0+1\.jpg\) has the category id 77', 'E'),
    'not_listed': (first(ANN, image_id=777), r'W does not list.* 1 of \d+: '
                   r'annotation 101 \(image 7', 'W not list'),
    'flat': (first(ANN, bbox=[0] * 4), f'W {ONE}', 'W as missed: 1 of'),
    # oddities that pass without a word
    'crowd_one': (first(ANN, iscrowd=1), '', ''),
    'ignored_one': (first(ANN, ignore=1, bbox=[0, 0, 0, 0]), '', ''),
    'large_one': (first(ANN, bbox=[-5, -5, 1000, 1000]), '', ''),
    'alone': (lambda c: c.update(annotations=c[ANN][:1]), '', ''),
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
