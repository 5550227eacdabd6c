"""``mmba2m check``, and colours for classes that have none."""

from pathlib import Path

import pytest
from mmdet.visualization.palette import get_palette

from mmba2m import data_checks
from mmba2m.data_checks.command import main
from mmba2m.data_checks.datasets import leaf_datasets, open_data
from mmba2m.data_checks.heads import check_heads

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py')


@pytest.fixture
def config(shapes, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    return CONFIG


def read_lines(capsys):
    lines = capsys.readouterr().out.splitlines()
    # MMEngine tells of SHAPES_ROOT
    return [line for line in lines if ' - mmengine - ' not in line]


def test_summary_of_whole_data(config, capsys):
    assert main([config]) == 0
    *_, last = lines = read_lines(capsys)
    assert last == '0 errors, 1 warnings'
    assert lines[0].startswith('warning: train_dataloader: the warm-up lasts')
    train = lines.index(next(x for x in lines if x.startswith('train_')))
    assert lines[train + 1] == '    6 of 6 images, 23 of 23 objects'
    assert lines[train + 2] == '    left out: 0'
    counts = [int(x.split(': ')[1]) for x in lines[train + 3 : train + 8]]
    assert sum(counts) == 23 and lines[train + 3].startswith('    0 circle: ')
    assert not any(x.startswith('test') for x in lines)  # is that of val


def test_each_finding_has_a_line(config, capsys):
    options = [
        'train_dataloader.dataset.metainfo.classes=ring,circle',
        'val_dataloader.dataset.data_root=nowhere',
        'test_dataloader.dataset.ann_file=none.json',
    ]
    assert main([config, '--cfg-options', *options]) == 1
    *lines, last = read_lines(capsys)
    errors = [x for x in lines if x.startswith('error: ')]
    assert last == '3 errors, 0 warnings'
    for loader, line in zip(('train', 'val', 'test'), errors, strict=True):
        assert line.startswith(f'error: {loader}_dataloader: ')
    assert 'train_dataloader: CocoDataset' in lines[3]


def test_palettes_that_are_too_short_are_left_to_the_host():
    classes = tuple(f'part{i}' for i in range(100))
    leaf = dict(type='mmdet.CocoDataset', metainfo=dict(classes=classes))
    dataset = dict(type='RepeatDataset', times=2, dataset=leaf)
    data_checks.complete_palettes(dataset)
    assert leaf['metainfo'] == dict(classes=classes, palette='random')
    assert len(get_palette('random', 100)) == 100
    whole = dict(classes=('a', 'b'), palette=[(1, 2, 3)] * 2)
    assert data_checks.complete_palette(whole) is whole


def test_a_checkpoint_has_learnt_its_classes():
    def check(learnt, classes):
        data = type('Data', (), dict(metainfo=dict(classes=classes)))
        meta = dict(dataset_meta=dict(CLASSES=learnt))
        data_checks.check_trained(meta, data, 'a.pth')

    check(['cat', 'dog'], ('cat', 'dog'))
    check(('cat', 'dog'), ('Katze', 'Hund'))
    check(None, ('cat', 'dog'))
    for classes in (('dog', 'cat'), ('cat',), ('cat', 'cow')):
        with pytest.raises(ValueError, match=r'a\.pth has learnt .* cat, dog'):
            check(('cat', 'dog'), classes)


@pytest.mark.slow
def test_shipped_configs_agree_with_their_heads(load_config):
    """Without data: classes of the data sets' types, and heads."""
    for path in (ROOT / 'configs').rglob('*.py'):
        if '_base_' in path.parts:
            continue
        cfg = load_config(str(path.relative_to(ROOT / 'configs')))
        config, _ = next(leaf_datasets(cfg.train_dataloader.dataset))
        data = open_data(config, cfg.default_scope, True, [])
        if data is not None and data.classes:
            assert not list(check_heads(cfg.model, data.classes)), path


def test_a_config_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as end:
        main(['nowhere.py'])
    assert end.value.code == 2
    assert 'nowhere.py' in capsys.readouterr().err.splitlines()[-1]
