"""A folder for each class, or a list of images and labels."""

import re

import pytest
from findings import LOADERS, say
from mmengine.config import ConfigDict
from mmpretrain.datasets import CustomDataset


@pytest.fixture
def check(tmp_path):
    def check(train, val, tool='train', **settings):
        loaders = {}
        for split, names in (('train', train), ('val', val)):
            for name in names.split():
                (tmp_path / split / name).mkdir(parents=True)
                (tmp_path / split / name / 'a.jpg').touch()
            dataset = dict(type='CustomDataset', data_root=str(tmp_path))
            dataset.update(data_prefix=split, **settings)
            loaders[f'{split}_dataloader'] = dict(dataset=dataset)
        loaders['test_dataloader'] = loaders['val_dataloader']
        cfg = ConfigDict(default_scope='mmpretrain', **loaders)
        return say(cfg, ['test_dataloader'] if tool == 'test' else LOADERS)

    return check


def labels(folder, **kwargs):
    dataset = CustomDataset(data_prefix=str(folder), **kwargs)
    return [info['gt_label'] for info in dataset.load_data_list()]


def named(*classes):
    return dict(metainfo=dict(classes=classes))


@pytest.mark.parametrize(
    'train, val, settings, message',
    [
        ('cat dog', 'cat dog', {}, ''),
        ('cat dog', 'cat dog', named('cat', 'dog'), ''),
        ('cat dog', 'cat dog', named('Katze', 'Hund'), ''),  # for display
        ('a b', 'b', dict(with_label=False), ''),
        ('bear cat', 'cat zbear', {}, r"val: .*'bear' \(did you mean 'zbear'"),
        ('cat dog', 'cat dog', named('cst', 'dog'),
         r"train: .*no 'cst' \(did you mean 'cat'\?"),
        ('cat dog', 'cat dog', named('dog', 'cat'),
         'train: the classes .*order is cat, dog'),
        ('cat dog', 'cat dog', dict(classes=('Dog', 'Cat')),
         "train: .*no 'Dog'"),
        ('cat dog', 'cat dog', dict(classes=('Katze', 'Hund', 'Maus')),
         'train: .*has 2 folders, but .* 3 class'),
        ('cat dog', 'cat dog', dict(classes='classes.txt'),
         'train: .*order is cat, dog'),
        ('.ipynb_checkpoints cat', '.ipynb_checkpoints cat', {},
         "train: .*hidden folder '.ipynb_.*for class 0"),
    ],
)  # fmt: skip
def test_folders(check, tmp_path, monkeypatch, train, val, settings, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'classes.txt').write_text('dog\ncat\n')
    message = message and f'E {message}.*'
    assert re.fullmatch(message, check(train, val, **settings), re.DOTALL)


@pytest.mark.parametrize('tool', ['val', 'test'])
def test_a_missing_folder_shifts_labels(check, tmp_path, tool):
    message = check('bear cat dog', 'cat dog', tool)
    assert re.fullmatch(f"E {tool}: .*no 'bear'.*", message)
    assert labels(tmp_path / 'train') == [0, 1, 2]
    assert labels(tmp_path / 'val', **named('dog', 'cat')) == [0, 1]


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
