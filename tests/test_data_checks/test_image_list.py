"""Lists of images and labels, for classification."""

import pytest
from mmengine.config import ConfigDict

from mmba2m.data_checks import check_data


@pytest.fixture
def check(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in ('a.jpg', 'b c.jpg'):
        (tmp_path / 'images' / name).touch()

    def check(content, **settings):
        (tmp_path / 'train.txt').write_bytes(content.encode())
        dataset = dict(
            type='CustomDataset',
            data_root=str(tmp_path),
            ann_file='train.txt',
            data_prefix='images',
            metainfo=dict(classes=('cat', 'dog')),
        )
        dataset.update(settings)
        cfg = ConfigDict(
            default_scope='mmpretrain',
            model=dict(head=dict(num_classes=2)),
            train_dataloader=dict(dataset=dataset),
        )
        check_data(cfg, ('train_dataloader',))

    return check


def test_whole_lists_pass(check):
    check('a.jpg 0\nb c.jpg 1\n')
    check('a.jpg 1\n', metainfo=None)
    check('a.jpg\nb c.jpg\n', with_label=False)


@pytest.mark.parametrize(
    'content, message',
    [
        ('', r'train\.txt. is empty'),
        ('\ufeffa.jpg 0\n', 'byte order mark'),
        ('a.jpg 0\nb c.j', r"line 2 of \S+train\.txt' is 'b c\.j'"),
        ('a.jpg\n', "line 1 .* is 'a.jpg', not a path and a label"),
        ('a.jpg 2\n', 'line 1 .* label 2, but the 2 classes are 0 to 1'),
    ],
)
def test_broken_lines_are_named(check, content, message):
    with pytest.raises(ValueError, match=f'train_dataloader: .*{message}'):
        check(content)


def test_missing_image_is_named(check):
    with pytest.raises(FileNotFoundError, match=r'd\.jpg.* 1 of 2 are miss'):
        check('a.jpg 0\nd.jpg 1\n')


def test_labels_are_held_against_classes_and_head(check):
    with pytest.raises(ValueError, match='label 7, but the 2 classes'):
        check('a.jpg 7\n', metainfo=None, classes=('cat', 'dog'))
    with pytest.raises(ValueError, match='label 2, but the 2 classes'):
        check('a.jpg 2\n', metainfo=None)  # of the head
    with pytest.raises(
        ValueError, match=r'head.num_classes is 2, but .* 1 cl'
    ):
        check('a.jpg 0\n', metainfo=dict(classes=('cat',)))
    with pytest.warns(UserWarning, match="no image of 1 of the 2 .* 'dog'"):
        check('a.jpg 0\n', metainfo=None, classes=('cat', 'dog'))
