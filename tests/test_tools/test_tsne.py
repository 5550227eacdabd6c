import json
import runpy
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tool_runs import ROOT, run_tool

from mmba2m.inspect import build_dataset, load_network, read_trained

pytest.importorskip('mmpretrain')
silhouette_score = pytest.importorskip('sklearn.metrics').silhouette_score

PATH = 'analysis_tools/tsne.py'
TOOL = runpy.run_path(str(ROOT / 'tools' / PATH))


@pytest.fixture
def run(classifier_run):
    (config,) = classifier_run.glob('*.py')
    return config, classifier_run / 'epoch_2.pth'


def test_figure_and_numbers(run, tmp_path):
    annealed = [run[0], run[1].with_name('epoch_3.pth')]
    out = tmp_path / 'made/tsne.png'
    classes = ['circle', 'star', 'square']
    args = ['--run', *run, 'BA²M', '--run', *annealed, 'annealed']
    args += ['--classes', *classes]
    args += ['--num-per-class', 3, '--perplexity', 4, '--out', out]
    printed = run_tool(PATH, *args)
    with Image.open(out) as figure:
        assert len(figure.convert('L').getcolors(figure.size[0] * 999)) > 50
    assert out.with_suffix('.pdf').read_bytes().startswith(b'%PDF')
    numbers = json.loads(out.with_suffix('.json').read_text())
    assert numbers['classes'] == [name for name in classes for _ in range(3)]
    assert list(numbers['networks']) == ['BA²M', 'annealed']

    # the silhouettes by hand, of the images that both have seen
    indices = numbers['indices']
    for files, label in ((run, 'BA²M'), (annealed, 'annealed')):
        cfg, checkpoint = read_trained(*map(str, files))
        dataset, model = build_dataset(cfg), load_network(cfg, checkpoint)
        samples = [dataset[i]['data_samples'] for i in indices]
        labels = [sample.gt_label.item() for sample in samples]
        assert [dataset.CLASSES[i] for i in labels] == numbers['classes']
        features = TOOL['extract_features'](model, dataset, indices, 64)
        network = numbers['networks'][label]
        expected = silhouette_score(features, labels)
        assert network['silhouette'] == pytest.approx(expected, rel=1e-4)
        assert f'{label}: silhouette {expected:.3f}' in printed
        assert np.shape(network['embedding']) == (9, 2)


def test_features_are_what_the_head_gets(run):
    cfg, checkpoint = read_trained(*map(str, run))
    dataset, model = build_dataset(cfg), load_network(cfg, checkpoint)
    indices = [7, 0, 3]
    got = []
    model.head.fc.register_forward_pre_hook(
        lambda module, args: got.append(args[0].cpu())
    )
    with torch.no_grad():
        for one in [dataset[i] for i in indices]:
            model.test_step({key: [one[key]] for key in one})
    features = TOOL['extract_features'](model, dataset, indices, 2)
    assert features.shape == (3, 128)
    np.testing.assert_allclose(features, torch.cat(got), rtol=1e-4, atol=1e-6)
    assert np.ptp(features, 0).max() > 1e-3


def test_images_are_drawn_from_the_classes(run):
    dataset = build_dataset(Config.fromfile(run[0]), 'train')
    choose = TOOL['choose_images']
    labels = np.array(dataset.get_gt_labels())
    chosen = choose(dataset, ['star', 'circle', 'star'], 4, 0)
    assert labels[chosen].tolist() == [3] * 4 + [0] * 4
    assert chosen == choose(dataset, ['star', 'circle'], 4, 0)
    assert chosen != choose(dataset, ['star', 'circle'], 4, 1)
    assert sorted(choose(dataset, None, 999, 0)) == list(range(len(labels)))
    for wanted, message in (
        (['star', 'moon'], "no class 'moon'; it has circle, ring, square"),
        (['star', 'star'], 'choose 2 to 14 --classes'),
    ):
        with pytest.raises(ValueError, match=message):
            choose(dataset, wanted, 4, 0)


def test_what_does_not_fit_is_named(run, tmp_path):
    cfg = Config.fromfile(run[0])
    dataset = cfg.test_dataloader.dataset
    dataset.data_root = dataset.data_root.replace('val', 'train')
    cfg.dump(tmp_path / 'other.py')
    cfg.default_scope = 'mmdet'
    cfg.dump(tmp_path / 'detector.py')
    options = ['--num-per-class', 2, '--perplexity', 4]
    png = tmp_path / 'tsne.png'
    ours = (*run, 'a')
    for runs, out, message in (
        ([ours, (tmp_path / 'other.py', run[1], 'b')], png, 'other.py has'),
        ([(tmp_path / 'detector.py', *ours[1:])], png, 'of MMPretrain'),
        ([ours, ours], png, 'give each another LABEL'),
        ([ours], tmp_path / 'tsne.pdf', 'the name of a .png'),
    ):
        args = [word for one in runs for word in ('--run', *one)]
        text = run_tool(PATH, *args, *options, '--out', out, fails=True)
        assert message in text and 'Traceback' not in text


def test_missing_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.manifold', None)
    with pytest.raises(ImportError, match=r'pip install "mmba2m\[analysis\]"'):
        runpy.run_path(str(ROOT / 'tools' / PATH))
