"""What VOC's annotations may hold, and what is said of it."""

import re

import pytest
from findings import LOADERS, say

FILTER = [dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))]


@pytest.fixture
def root(shapes):
    return shapes / 'VOCdevkit/VOC2007'


@pytest.fixture
def file(root):
    return sorted((root / 'Annotations').iterdir())[0]


@pytest.fixture
def listed(root):
    return root / 'ImageSets/Main/trainval.txt'


def box(left, top, right, bottom):
    return (
        f'<bndbox><xmin>{left}</xmin><ymin>{top}</ymin>'
        f'<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>'
    )


BOX = '<bndbox>.*?</bndbox>'
FLAT = box(5, 5, 5, 20)
OUTSIDE = box(500, 5, 510, 20)
#: a pattern in the first XML file, what replaces it, settings, what is said
CASES = [
    (BOX, '', {}, 'E FILE.*bndbox/xmin None, .*not four finite numbers'),
    (BOX, box('nan', 1, 5, 5), {}, "E FILE.*xmin 'nan', .*not four finite"),
    (BOX, box(1, 1, 'inf', 5), {}, 'E FILE.*not four finite'),
    (BOX, box(1, 1, 10**400, 5), {}, 'E FILE.*not four finite'),
    ('<width>.*?<', '<width>wide<', {},
     "E FILE.*it has size/width 'wide', size/height '64', not two whole"),
    ('<difficult>0', '<difficult>', {}, "E FILE.*difficult '', not 0 or 1"),
    ('<difficult>0', '<difficult>Unspecified', {}, 'E FILE.*not 0 or 1'),
    ('<name>.*?</name>', '', {}, 'E FILE.*has an object without a name'),
    ('</annotation>', '', {}, 'E FILE.*cut off'),
    # boxes without targets
    (BOX, FLAT, {},
     r'E without area.*bbox_min_size=1.* 1 of \d+: .5, 5, 5, 20. in'),
    (BOX, box(9, 9, 5, 5), {}, 'E without area'),
    (BOX, OUTSIDE, {}, 'E outside of their image.*FilterAnnotations.* 1 of'),
    (BOX, box(5, -20, 9, 1), {}, 'E outside of their image'),
    (BOX, OUTSIDE, dict(filter_cfg=dict(bbox_min_size=1)), 'E outside'),
    # left out by the config
    (BOX, FLAT, dict(filter_cfg=dict(bbox_min_size=1)),
     r'W are left out: 1 of \d+: \('),
    (BOX, FLAT, dict(pipeline=FILTER), r'W are left out: 1 of \d+: \('),
    (BOX, OUTSIDE, dict(pipeline=FILTER), r'W are left out: 1 of \d+: \('),
    ('<name>.*?</name>', '<name>cow</name>', {}, "W left out: {'cow': 1}"),
    ('<', '<', dict(filter_cfg=dict(min_size=10_000)),
     'E leaves none of its 6 images'),
    # oddities that pass without a word
    (BOX, box(-5, -5, 1000, 1000), {}, ''),
    (BOX, box('1.5', 1, '20.0', 20), {}, ''),
    ('<size>.*</size>', '', {}, ''),
    ('<width>.*?<', '<width>0<', {}, ''),
    ('<difficult>.*?' + BOX, '<difficult>1</difficult>' + FLAT, {}, ''),
    ('<object>.*</object>', '', {}, ''),
    ('^', '\ufeff', {}, ''),
]  # fmt: skip


@pytest.mark.parametrize('pattern, replacement, settings, message', CASES)
def test_objects(voc, file, pattern, replacement, settings, message):
    text, count = re.subn(
        pattern, replacement, file.read_text(), count=1, flags=re.DOTALL
    )
    assert count
    file.write_text(text)
    voc.train_dataloader.dataset.datasets[0].update(settings)
    message = message.replace('FILE', file.name)
    message = message and f'{message[0]} train: .*{message[2:]}.*'
    assert re.fullmatch(message, say(voc))


def test_what_is_named_is_there(voc, file):
    file.unlink()
    assert re.match(r'N .*\.xml.* listed in', say(voc))
    voc.train_dataloader.dataset.datasets[0].metainfo.classes = ('rings',)
    file.write_text('<annotation/>')
    assert re.match("E .*'rings'.*did you mean 'ring'", say(voc))


def test_list_is_text_that_lists_each_once(voc, listed):
    text = listed.read_text()
    listed.write_text(text + text.split()[0] + '\n')
    assert re.match('W .*more than once: 1 of 7: 000001', say(voc))
    listed.write_text('\ufeff' + text)
    assert re.match(r'E .*trainval\.txt.* byte order mark', say(voc))
    listed.write_text('')
    assert re.match(r'E .*trainval\.txt.* is empty', say(voc))


def test_images_are_there_as_jpg(voc, root, file):
    image = root / f'JPEGImages/{file.stem}.jpg'
    for suffix in ('.png', '.JPG'):
        other = image.rename(image.with_suffix(suffix))
        assert re.search(
            rf"N .*not found \('{file.stem}{suffix}' lies there, but "
            r"MMDetection reads VOC's images as \.jpg only\); 1 of 6 are miss",
            say(voc),
        )
        other.rename(image)
    image.unlink()
    assert re.match(
        rf'N .*image \S+{image.name}.*found; 1 of 6 are missing', say(voc)
    )


@pytest.mark.parametrize('loader', LOADERS)
def test_difficult_objects_alone_are_none(voc, root, loader):
    aim = 'train on' if loader.startswith('train') else 'find'
    for path in (root / 'Annotations').iterdir():
        text = path.read_text().replace('difficult>0', 'difficult>1')
        path.write_text(text)
    voc[loader] = voc.train_dataloader
    assert re.match(
        rf'E .*no object to {aim} in 6 .* of (\d+), \1 difficult',
        say(voc, [loader]),
    )
