import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmba2m.datasets import make_shapes
from mmba2m.inspect import build_dataset, load_network, read_trained

pytest.importorskip('mmpretrain')
silhouette_score = pytest.importorskip('sklearn.metrics').silhouette_score

ROOT = Path(__file__).parents[2]
PATH = str(ROOT / 'tools/analysis_tools/tsne.py')
TOOL = runpy.run_path(PATH)
CONFIG = str(ROOT / 'configs/demo/ba2m-resnet18_shapes.py')
CLASSES = ['circle', 'star', 'square']


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(folder, num_train=5, num_val=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES_ROOT', str(folder))
        yield folder


@pytest.fixture(scope='module')
def runs(shapes, tmp_path_factory):
    """Two networks, one with and one without BA²M, random weights."""
    folder = tmp_path_factory.mktemp('runs')
    runs = {}
    for name, stages in (('ba2m', [True] * 4), ('plain', [False] * 4)):
        cfg = Config.fromfile(CONFIG)
        cfg.model.backbone.ba2m_stages = stages
        cfg.dump(folder / f'{name}.py')
        init_default_scope('mmpretrain')
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        torch.save(model.state_dict(), folder / f'{name}.pth')
        runs[name] = [str(folder / f'{name}.{end}') for end in ('py', 'pth')]
    return runs


def test_figure_and_numbers(runs, tmp_path, capsys):
    out = tmp_path / 'made' / 'tsne.png'
    args = ['--run', *runs['ba2m'], 'with BA²M', '--run', *runs['plain']]
    args += ['--classes', *CLASSES, '--num-per-class', '5']
    TOOL['main']([*args, '--perplexity', '4', '--out', str(out)])
    printed = capsys.readouterr().out
    with Image.open(out) as figure:
        figure.load()
        assert len(figure.convert('L').getcolors(figure.size[0] * 999)) > 50
    assert out.with_suffix('.pdf').read_bytes().startswith(b'%PDF')
    numbers = json.loads(out.with_suffix('.json').read_text())
    assert numbers['classes'] == [name for name in CLASSES for _ in range(5)]
    assert list(numbers['networks']) == ['with BA²M', 'plain']

    # the silhouettes by hand, of the images that both have seen
    for name, label in (('ba2m', 'with BA²M'), ('plain', 'plain')):
        cfg = Config.fromfile(runs[name][0])
        dataset = build_dataset(cfg)
        labels = [
            dataset[i]['data_samples'].gt_label.item()
            for i in numbers['indices']
        ]
        assert [dataset.CLASSES[i] for i in labels] == numbers['classes']
        model = load_network(*read_trained(*runs[name]))
        features = TOOL['extract_features'](
            model, dataset, numbers['indices'], 64
        )
        network = numbers['networks'][label]
        expected = silhouette_score(features, labels)
        assert network['silhouette'] == pytest.approx(expected, rel=1e-4)
        assert f'{label}: silhouette {expected:.3f}' in printed
        assert np.shape(network['embedding']) == (15, 2)


def test_features_are_what_the_head_gets(runs):
    cfg = Config.fromfile(runs['ba2m'][0])
    dataset = build_dataset(cfg)
    model = load_network(*read_trained(*runs['ba2m']))
    # Z of training: then the weights are not 1
    for name, buffer in model.named_buffers():
        if name.endswith('running_normalizer'):
            buffer.fill_(1.3)
    indices = [7, 0, 3]
    got = []
    model.head.fc.register_forward_pre_hook(
        lambda module, args: got.append(args[0].cpu())
    )
    batch = [dataset[i] for i in indices]
    with torch.no_grad():
        for one in batch:
            model.test_step(
                {
                    'inputs': [one['inputs']],
                    'data_samples': [one['data_samples']],
                }
            )
    features = TOOL['extract_features'](model, dataset, indices, 2)
    assert features.shape == (3, 128)
    np.testing.assert_allclose(features, torch.cat(got), rtol=1e-4, atol=1e-6)
    assert np.ptp(features, 0).max() > 1e-3


def test_images_are_drawn_from_the_classes(runs):
    dataset = build_dataset(Config.fromfile(runs['plain'][0]))
    choose = TOOL['choose_images']
    labels = np.array(dataset.get_gt_labels())
    chosen = choose(dataset, [3, 0], 4, 0)
    assert labels[chosen].tolist() == [3] * 4 + [0] * 4
    assert chosen == choose(dataset, [3, 0], 4, 0)
    assert chosen != choose(dataset, [3, 0], 4, 1)
    every = choose(dataset, [2], 999, 0)
    assert sorted(every) == np.flatnonzero(labels == 2).tolist()


def test_classes_by_name_or_number():
    find = TOOL['find_classes']
    names = ['cat', 'dog', '7']
    assert find(names) == [0, 1, 2]
    assert find(names, ['dog', '0']) == [1, 0]
    assert find(names, ['7', 'cat', '7']) == [2, 0]
    for wanted, message in (
        (['cat', 'dgo'], "no class 'dgo'; it has cat, dog, 7"),
        (['cat', '3'], "no class '3'"),
        (['cat', '0'], '1 classes: choose 2 to 14'),
    ):
        with pytest.raises(ValueError, match=message):
            find(names, wanted)
    with pytest.raises(ValueError, match='20 classes: choose 2 to 14'):
        find([f'class {i}' for i in range(20)])


def test_names_of_the_networks():
    runs = [['a/x.py', '1.pth'], ['b/x.py', '2.pth'], ['y.py', '3.pth']]
    name = TOOL['name_runs']
    assert name(runs) == ['x, 1.pth', 'x, 2.pth', 'y']
    assert name([[*runs[0], 'BA²M'], runs[2]]) == ['BA²M', 'y']


def test_other_images_are_refused(runs, tmp_path):
    cfg = Config.fromfile(runs['plain'][0])
    split = 'train'
    folder = cfg.test_dataloader.dataset.data_root
    cfg.test_dataloader.dataset.data_root = folder.replace('val', split)
    other = tmp_path / 'other.py'
    cfg.dump(other)
    args = ['--run', *runs['ba2m'], '--run', str(other), runs['plain'][1]]
    args += ['--perplexity', '4', '--num-per-class', '3']
    with pytest.raises(ValueError, match=r'other\.py has other'):
        TOOL['main']([*args, '--out', str(tmp_path / 'tsne.png')])


@pytest.mark.parametrize(
    'options, message',
    [
        (['--perplexity', '999'], '--perplexity 999 needs more than the 10'),
        (['--classes', 'moon', 'star'], "no class 'moon'"),
    ],
)
def test_what_cannot_be_drawn_is_named(runs, tmp_path, options, message):
    out = ['--num-per-class', '2', '--out', str(tmp_path / 'tsne.png')]
    with pytest.raises(ValueError, match=message):
        TOOL['main'](['--run', *runs['plain'], *options, *out])


def test_wrong_checkpoint_is_named(runs, tmp_path):
    run = [runs['ba2m'][0], runs['plain'][1]]
    out = ['--num-per-class', '9', '--out', str(tmp_path / 'tsne.png')]
    with pytest.raises(ValueError, match=r'missing: backbone\.layer1\.ba2m'):
        TOOL['main'](['--run', *run, *out])


def test_detector_is_refused(runs):
    config = str(ROOT / 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py')
    with pytest.raises(ValueError, match='no config of MMPretrain'):
        TOOL['main'](['--run', config, runs['ba2m'][1], '--out', 'tsne.png'])


@pytest.mark.parametrize(
    'args, message',
    [
        (['--run', 'c.py'], '--run c.py: CONFIG CHECKPOINT'),
        (
            ['--run', 'c.py', 'c.pth', 'x', '--run', 'd.py', 'd.pth', 'x'],
            '--run: x, x: give each another LABEL',
        ),
    ],
)
def test_wrong_use_is_named(args, message, capsys):
    with pytest.raises(SystemExit):
        TOOL['main']([*args, '--out', 'tsne.png'])
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        TOOL['main'](['--run', 'c.py', 'c.pth', '--out', 'tsne.pdf'])


def test_missing_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.manifold', None)
    with pytest.raises(ImportError, match=r'pip install "mmba2m\[analysis\]"'):
        runpy.run_path(PATH)
