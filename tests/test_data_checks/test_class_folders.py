"""A folder for each class, for classification."""

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
        ('cat dog', 'cat dog', dict(classes=('dog', 'cat')),
         'train: the classes .*order is cat, dog'),
        ('cat dog', 'cat dog', dict(classes=('cat', 'dgo')),
         r"train: .*no 'dgo' \(did you mean 'dog'"),
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
    assert labels(tmp_path / 'val') == [0, 1]  # cat and dog


def test_classes_in_another_order_are_refused(check, tmp_path):
    other = named('dog', 'cat')
    message = check('cat dog', 'cat dog', **other)
    assert re.match('E train: the classes .*order is cat, dog', message)
    assert labels(tmp_path / 'train', **other) == [0, 1]  # cat is 0 still


def test_a_folder_without_images_is_a_class_all_the_same(check, tmp_path):
    for split in ('train', 'val'):
        (tmp_path / split / 'bear').mkdir(parents=True)
    assert re.fullmatch(
        "W train: .*no images in 'bear', which is class 0 all the same",
        check('cat dog', 'cat dog'),
    )
