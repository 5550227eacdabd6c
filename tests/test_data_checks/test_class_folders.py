"""A folder for each class, for classification."""

import pytest
from mmengine.config import ConfigDict
from mmpretrain.datasets import CustomDataset

from mmba2m.data_checks import check_data


@pytest.fixture
def check(tmp_path):
    def check(train, val, metainfo=None, tool='train', **settings):
        loaders = {}
        for split, names in (('train', train), ('val', val)):
            for name in names:
                (tmp_path / split / name).mkdir(parents=True)
                (tmp_path / split / name / 'a.jpg').touch()
            dataset = dict(type='CustomDataset', data_root=str(tmp_path))
            dataset.update(data_prefix=split, **settings)
            if metainfo:
                dataset.update(metainfo=dict(classes=metainfo))
            loaders[f'{split}_dataloader'] = dict(dataset=dataset)
        loaders['test_dataloader'] = loaders['val_dataloader']
        names = ['test'] if tool == 'test' else ['train', 'val']
        cfg = ConfigDict(default_scope='mmpretrain', **loaders)
        check_data(cfg, [f'{name}_dataloader' for name in names])

    return check


def labels(folder, **kwargs):
    dataset = CustomDataset(data_prefix=str(folder), **kwargs)
    return [info['gt_label'] for info in dataset.load_data_list()]


def test_the_same_folders_pass(check):
    check(['cat', 'dog'], ['cat', 'dog'])


@pytest.mark.parametrize('classes', [('cat', 'dog'), ('Katze', 'Hund')])
def test_names_of_the_folders_or_for_display_pass(check, classes):
    check(['cat', 'dog'], ['cat', 'dog'], classes)


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_a_missing_or_misspelt_folder_shifts_labels(check, tmp_path, tool):
    message = (
        rf"{'val' if tool == 'train' else 'test'}_dataloader: .*no 'bear'"
    )
    with pytest.raises(ValueError, match=message):
        check(['bear', 'cat', 'dog'], ['cat', 'dog'], tool=tool)
    assert labels(tmp_path / 'train') == [0, 1, 2]
    assert labels(tmp_path / 'val') == [0, 1]  # cat and dog


def test_a_misspelt_folder_is_named(check):
    with pytest.raises(ValueError, match=r"'bear' \(did you mean 'zbear'\?"):
        check(['bear', 'cat'], ['cat', 'zbear'])


def test_classes_in_another_order_are_refused(check, tmp_path):
    with pytest.raises(
        ValueError, match=r'train_dataloader: the classes .*order is cat, dog'
    ):
        check(['cat', 'dog'], ['cat', 'dog'], ('dog', 'cat'))
    # cat is 0 all the same
    assert labels(
        tmp_path / 'train', metainfo=dict(classes=('dog', 'cat'))
    ) == [0, 1]


def test_a_misspelt_class_of_the_config_is_named(check):
    with pytest.raises(ValueError, match=r"no 'cst' \(did you mean 'cat'\?"):
        check(['cat', 'dog'], ['cat', 'dog'], ('cst', 'dog'))


def test_images_without_labels_have_no_classes(check):
    check(['a', 'b'], ['b'], with_label=False)


@pytest.mark.parametrize(
    'folders, classes, message',
    [
        (
            'cat dog',
            ('dog', 'cat'),
            'train.*: the classes .*order is cat, dog',
        ),
        ('cat dog', ('cat', 'dgo'), r"no 'dgo' \(did you mean 'dog'"),
        ('cat dog', ('Dog', 'Cat'), "no 'Dog'"),
        (
            'cat dog',
            ('Katze', 'Hund', 'Maus'),
            'has 2 folders, but .* 3 class',
        ),
        ('cat dog', 'classes.txt', 'order is cat, dog'),
        (
            '.ipynb_checkpoints cat',
            None,
            "hidden folder '.ipynb_.*for class 0",
        ),
    ],
)
def test_mmpretrains_own_classes(check, tmp_path, folders, classes, message):
    if isinstance(classes, str):
        classes = str(tmp_path / classes)
        (tmp_path / 'classes.txt').write_text('dog\ncat\n')
    folders = folders.split()
    with pytest.raises(ValueError, match=message):
        check(folders, folders, classes=classes)


def test_a_folder_without_images_is_a_class_all_the_same(check, tmp_path):
    (tmp_path / 'train/bear').mkdir(parents=True)
    (tmp_path / 'val/bear').mkdir(parents=True)
    with pytest.warns(
        UserWarning, match="no images in 'bear', which is class 0"
    ):
        check(['cat', 'dog'], ['cat', 'dog'])
