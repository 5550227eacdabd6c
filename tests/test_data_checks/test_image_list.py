"""Lists of images and labels, for classification."""

import re

import pytest
from findings import LOADERS, say
from mmengine.config import ConfigDict

NONE = dict(metainfo=None)
CLASSES = dict(metainfo=None, classes=('cat', 'dog'))


@pytest.mark.parametrize(
    'content, settings, message',
    [
        ('a.jpg 0\nb c.jpg 1\n', {}, ''),
        ('a.jpg 1\n', NONE, ''),
        ('a.jpg\nb c.jpg\n', dict(with_label=False), ''),
        ('', {}, r'E train\.txt. is empty'),
        ('\ufeffa.jpg 0\n', {}, 'E byte order mark'),
        ('a.jpg 0\nb c.j', {}, r"E line 2 of \S+train\.txt' is 'b c\.j'"),
        ('a.jpg\n', {}, "E line 1 .* is 'a.jpg', not a path and a label"),
        ('a.jpg 2\n', {}, 'E line 1 .* label 2, but the 2 classes are 0 to 1'),
        ('a.jpg 0\nd.jpg 1\n', {}, r'N d\.jpg.* 1 of 2 are miss'),
        ('a.jpg 7\n', CLASSES, 'E label 7, but the 2 classes'),
        ('a.jpg 2\n', NONE, 'E label 2, but the 2 classes'),  # of the head
        ('a.jpg 0\n', dict(metainfo=dict(classes=('cat',))),
         'E head.num_classes is 2, but .* 1 cl'),
        ('a.jpg 0\n', CLASSES, "W no image of 1 of the 2 .* 'dog'"),
    ],
)  # fmt: skip
def test_list(tmp_path, content, settings, message):
    (tmp_path / 'images').mkdir()
    for name in ('a.jpg', 'b c.jpg'):
        (tmp_path / 'images' / name).touch()
    (tmp_path / 'train.txt').write_bytes(content.encode())
    dataset = dict(
        type='CustomDataset',
        data_root=str(tmp_path),
        ann_file='train.txt',
        data_prefix='images',
        metainfo=dict(classes=('cat', 'dog')),
    )
    cfg = ConfigDict(
        default_scope='mmpretrain',
        model=dict(head=dict(num_classes=2)),
        train_dataloader=dict(dataset={**dataset, **settings}),
    )
    message = message and f'{message[0]} train: .*{message[2:]}.*'
    assert re.fullmatch(message, say(cfg, LOADERS[:1]))
