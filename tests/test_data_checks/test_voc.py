"""What VOC's annotations may hold, and what is said of it."""

import re
import warnings

import pytest

from mmba2m.data_checks import check_data

TRAIN = ('train_dataloader',)


@pytest.fixture
def edit(voc, shapes):
    """Lets a test change the first XML file, and checks the data."""
    root = shapes / 'VOCdevkit/VOC2007'
    file = sorted((root / 'Annotations').iterdir())[0]

    def edit(pattern, replacement, **settings):
        text, count = re.subn(
            pattern, replacement, file.read_text(), count=1, flags=re.DOTALL
        )
        assert count
        file.write_text(text)
        voc.train_dataloader.dataset.datasets[0].update(settings)
        check_data(voc, TRAIN)

    edit.file, edit.cfg, edit.root = file, voc, root
    edit.list = root / 'ImageSets/Main/trainval.txt'
    return edit


BOX = '<bndbox>.*?</bndbox>'


def box(left, top, right, bottom):
    return (
        f'<bndbox><xmin>{left}</xmin><ymin>{top}</ymin>'
        f'<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>'
    )


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'is empty'),
        (b'\xef\xbb\xbf000001\n', 'byte order mark'),
    ],
)
def test_unreadable_list_is_named(edit, content, message):
    edit.list.write_bytes(content)
    with pytest.raises(ValueError, match=rf'trainval\.txt.* {message}'):
        check_data(edit.cfg, TRAIN)


def test_xml_with_byte_order_mark_is_fine(edit):
    edit.file.write_text(edit.file.read_text(), encoding='utf-8-sig')
    check_data(edit.cfg, TRAIN)


def test_missing_image_is_named(edit):
    image = edit.root / 'JPEGImages' / f'{edit.file.stem}.jpg'
    image.unlink()
    with pytest.raises(
        FileNotFoundError, match=rf'image \S+{image.name}.*1 of 6 are missing'
    ):
        check_data(edit.cfg, TRAIN)


@pytest.mark.parametrize(
    'pattern, replacement, message',
    [
        (BOX, '', r'the box of .* is \[None, .*not four finite numbers'),
        (BOX, box('nan', 1, 5, 5), r"is \['nan', .*not four finite"),
        (BOX, box(1, 1, 'inf', 5), r'not four finite'),
        ('<width>.*?<', '<width>wide<', "width and height are .'wide'"),
        (BOX, box(1, 1, 10**400, 5), 'not four finite'),
        ('<difficult>0', '<difficult>', "difficult of '.*' is '', not 0 or 1"),
        ('<difficult>0', '<difficult>Unspecified', "is 'Unspecified', not 0"),
        ('<name>.*?</name>', '', 'has an object without a name'),
    ],
)
def test_broken_values_are_named(edit, pattern, replacement, message):
    with pytest.raises(ValueError, match=rf'{edit.file.name}.*{message}'):
        edit(pattern, replacement)


FLAT = box(5, 5, 5, 20)
OUTSIDE = box(500, 5, 510, 20)
FILTER = dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))


@pytest.mark.parametrize(
    'values, message',
    [
        (
            FLAT,
            r'without area.*bbox_min_size=1.* 1 of \d+: \(5, 5, 5, 20\) in',
        ),
        (box(9, 9, 5, 5), 'without area'),
        (OUTSIDE, r'outside of their image.*FilterAnnotations.* 1 of'),
        (box(5, -20, 9, 1), 'outside of their image'),
    ],
)
def test_boxes_without_targets_are_refused(edit, values, message):
    with pytest.raises(ValueError, match=message):
        edit(BOX, values)


@pytest.mark.parametrize(
    'values, settings',
    [
        (FLAT, dict(filter_cfg=dict(bbox_min_size=1))),
        (FLAT, dict(pipeline=[FILTER])),
        (OUTSIDE, dict(pipeline=[FILTER])),
    ],
)
def test_boxes_that_the_config_leaves_out_are_counted(edit, values, settings):
    with pytest.warns(UserWarning, match=r'are left out: 1 of \d+: \('):
        edit(BOX, values, **settings)


def test_min_size_does_not_help_against_boxes_outside(edit):
    with pytest.raises(ValueError, match='outside'):
        edit(BOX, OUTSIDE, filter_cfg=dict(bbox_min_size=1))


@pytest.mark.parametrize(
    'pattern, replacement',
    [
        (BOX, box(-5, -5, 1000, 1000)),
        (BOX, box('1.5', 1, '20.0', 20)),
        ('<size>.*</size>', ''),
        ('<width>.*?<', '<width>0<'),
        (
            '<difficult>.*?' + BOX,
            '<difficult>1</difficult>' + FLAT,
        ),
        ('<object>.*</object>', ''),
    ],
)
def test_ordinary_oddities_pass_without_a_word(edit, pattern, replacement):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        edit(pattern, replacement)


def test_objects_of_other_classes_are_counted(edit):
    with pytest.warns(UserWarning, match=r"left out: \{'cow': 1\}"):
        edit('<name>.*?</name>', '<name>cow</name>')


def test_images_listed_twice_are_counted(edit):
    text = edit.list.read_text()
    edit.list.write_text(text + text.split()[0] + '\n')
    with pytest.warns(UserWarning, match='more than once: 1 of 7: 000001'):
        check_data(edit.cfg, TRAIN)


def test_filter_that_leaves_nothing_is_named(edit):
    with pytest.raises(ValueError, match='leaves none of its 6 images'):
        edit('<', '<', filter_cfg=dict(min_size=10_000))


@pytest.mark.parametrize('suffix', ['.png', '.JPG'])
def test_images_of_another_suffix_are_named(edit, suffix):
    image = edit.root / f'JPEGImages/{edit.file.stem}.jpg'
    image.rename(image.with_suffix(suffix))
    with pytest.raises(
        FileNotFoundError,
        match=rf"not found \('{edit.file.stem}{suffix}' lies there, but "
        r"MMDetection reads VOC's images as \.jpg only\); 1 of 6 are missing",
    ):
        check_data(edit.cfg, TRAIN)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_difficult_objects_alone_are_none(voc, shapes, split):
    for path in (shapes / 'VOCdevkit/VOC2007/Annotations').iterdir():
        text = path.read_text().replace('difficult>0', 'difficult>1')
        path.write_text(text)
    voc[f'{split}_dataloader'] = voc.train_dataloader
    aim = dict(train='train on', val='find')[split]
    with pytest.raises(
        ValueError, match=rf'no object to {aim} in 6 .* of (\d+), \1 difficult'
    ):
        check_data(voc, [f'{split}_dataloader'])
