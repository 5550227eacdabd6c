import runpy
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from scipy.stats import rankdata

from mmba2m.datasets import make_shapes
from mmba2m.inspect import build_dataset, load_network

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / 'tools/studies/weight_relations.py'))
CONFIG = str(ROOT / 'configs/demo/ba2m-resnet18_shapes.py')


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Config and checkpoint of a network with random weights."""
    make_shapes(tmp_path / 'shapes', num_train=5, num_val=10)
    monkeypatch.setenv('SHAPES_ROOT', str(tmp_path / 'shapes'))
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(CONFIG).model)
    model.init_weights()
    torch.save(model.state_dict(), tmp_path / 'model.pth')
    return CONFIG, str(tmp_path / 'model.pth')


def test_collects_what_each_image_gives_alone(run):
    cfg = Config.fromfile(run[0])
    dataset, model = build_dataset(cfg), load_network(cfg, run[1])
    indices = [4, 0, 9, 7, 2]
    sars, traits = TOOL['collect'](model, dataset, indices, batch_size=2)
    modules = [f'backbone.layer{i}.ba2m' for i in (1, 2, 3, 4)]
    assert list(sars) == modules
    seen = {}
    for name in modules:
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0]})
        )
    for place, index in enumerate(indices):
        sample = dataset[index]
        data = model.data_preprocessor(pseudo_collate([sample]), False)
        with torch.no_grad():
            logits = model(data['inputs'], mode='tensor')
            for name in modules:
                module = model.get_submodule(name)
                sar = module.sample_attention(seen[name]).item()
                assert sars[name][place] == pytest.approx(sar, rel=1e-5)
        label = sample['data_samples'].gt_label.item()
        assert traits['class'][place] == label
        loss = logits.logsumexp(1)[0] - logits[0, label]
        assert traits['loss'][place] == pytest.approx(loss.item(), rel=1e-4)
        pixels = sample['inputs'].numpy().transpose(1, 2, 0)
        assert traits['contrast'][place] == pytest.approx(pixels.std())
        packed = zlib.compress(pixels.tobytes(), 9)
        assert traits['complexity'][place] == len(packed)


def test_share_between_groups():
    values = np.array([1.0, 3, 5, 5, 7, 9])
    groups = np.array([4, 4, 0, 0, 2, 2])
    # means 2, 5, 8 around 5; values −4, −2, 0, 0, 2, 4
    share = TOOL['share_between'](values, groups)
    assert share == pytest.approx((9 + 0 + 9) / 3 / (40 / 6))
    assert TOOL['share_between'](groups * 1.0, groups) == pytest.approx(1)
    assert np.isnan(TOOL['share_between'](np.ones(6), groups))


def test_table(run, capsys):
    TOOL['main']([*run, '--num', '8', '--seed', '3'])
    header, _, *rows = capsys.readouterr().out.strip().splitlines()[-6:]
    assert header == (
        '| module | SAR, std | class, η² | loss, ρ | complexity, ρ '
        '| contrast, ρ |'
    )
    cfg = Config.fromfile(run[0])
    dataset, model = build_dataset(cfg), load_network(cfg, run[1])
    indices = np.random.RandomState(3).permutation(len(dataset))[:8]
    sars, traits = TOOL['collect'](model, dataset, indices, 8)
    assert len(rows) == 4
    for row, (name, sar) in zip(rows, sars.items(), strict=True):
        module, std, share, *correlations = row.strip('| ').split(' | ')
        assert module == name
        assert float(std) == pytest.approx(sar.std(), abs=6e-5)
        expected = TOOL['share_between'](sar, traits['class'])
        assert float(share) == pytest.approx(expected, abs=6e-3)
        for value, trait in zip(
            correlations, ('loss', 'complexity', 'contrast'), strict=True
        ):
            ranks = rankdata(sar), rankdata(traits[trait])
            expected = np.corrcoef(*ranks)[0, 1]
            assert float(value) == pytest.approx(expected, abs=6e-3)


def test_detectors_are_refused():
    config = str(ROOT / 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py')
    with pytest.raises(ValueError, match=r'shapes\.py is no config of MMPret'):
        TOOL['main']([config, 'none.pth'])
