"""Scripts in pages, run on tiny data."""

import math
import re

import pytest
import torch
from code_blocks import ROOT, find_blocks
from mmengine.config import Config
from mmengine.registry import MODELS
from test_page_tables import read_tables


def find_script(test):
    mark = f'tests/test_docs/test_page_scripts.py::{test}'
    (block,) = (
        block
        for block in find_blocks('python', mark='run by')
        if block.reason == mark
    )
    return block.text


def load_small(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.update(
        depth=18, base_channels=8, stem_channels=8, init_cfg=None
    )
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    return cfg


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The script's configs, with small networks."""
    pytest.importorskip('mmdet')
    monkeypatch.chdir(ROOT)
    fake = type('Config', (), dict(fromfile=staticmethod(load_small)))
    monkeypatch.setattr('mmengine.config.Config', fake)


def test_start_of_the_heads(capsys):
    code = find_script('test_start_of_the_heads')
    code = code.replace('600, 992', '64, 96')
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    heads = 'RetinaHead', 'SoftmaxRetinaHead'
    lines = [line for line in lines if line.startswith(heads)]  # no log
    kinds = [line.split()[0] for line in lines]
    assert kinds == [
        name
        for name in ('RetinaHead', 'RetinaHead', 'SoftmaxRetinaHead')
        for _ in range(2)
    ]
    focal, plain, ours = (
        float(re.search(r'\((\d+\.\d+)', line)[1]) for line in lines[1::2]
    )
    assert focal < ours < plain  # as in the page's table


def run_script(test, capsys):
    """The code of a page, and the numbers that its lines end with."""
    code = find_script(test)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    return code, [float(line.split()[-1]) for line in lines]


def test_premise(capsys):
    _, found = run_script('test_premise', capsys)
    assert found[:3] == [1, 1, 1]
    assert found[3:6] == pytest.approx([2e-4, 1e-4, 1e-4], abs=1e-4)
    assert found[6] == pytest.approx(0.49, abs=0.01)
    # (p − y)·z = −m·(1 − p)
    expected = [-m * 9 / (9 + math.exp(m)) for m in (1, 4, 16)]
    assert found[7:] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert expected == pytest.approx([-0.77, -0.57, -2e-5], abs=0.005)


@pytest.mark.slow
def test_cancellation(capsys):
    exec(find_script('test_cancellation'), {})
    lines = capsys.readouterr().out.replace(',', ' ').splitlines()
    clear, noise = (
        [[float(x.strip('[]')) for x in line.split()] for line in lines[i::2]]
        for i in (0, 1)
    )
    rows = read_tables('docs/batch_aware_weights.md')[0]
    for row, one, other in zip(rows, clear, noise, strict=True):
        cells = [[float(x) for x in cell.split(', ')] for cell in row]
        assert cells[0] == one[:2] == other[:2]
        assert [one[2], other[2]] == pytest.approx(cells[1], rel=0.2, abs=0.05)
        assert [one[3], other[3]] == pytest.approx(cells[2], rel=0.1, abs=0.05)
        assert one[4] == pytest.approx(cells[3][0], abs=0.005)


def test_decay_alone(capsys):
    code, found = run_script('test_decay_alone', capsys)
    noted = re.findall('# (.*)', code)
    expected = [float(text) for texts in noted for text in texts.split()]
    assert len(found) == 8
    assert found[:7] == pytest.approx(expected[:7], abs=0.005)
    assert found[7] == pytest.approx(expected[7], abs=5e-9)


def test_change_at_the_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('mmengine.config.Config', Config)
    file = tmp_path / 'thin.pth'
    monkeypatch.setenv('RESNET50_THIN', str(file))
    path = 'configs/studies/faster-rcnn_r50_thin_bccd.py'
    backbone = Config.fromfile(path).model.backbone
    torch.manual_seed(0)
    network = MODELS.build(dict(backbone, init_cfg=None, _scope_='mmdet'))
    torch.save(dict(state_dict=network.state_dict()), file)
    code = find_script('test_change_at_the_start')
    exec(code.replace('8, 3, 192, 256', '2, 3, 64, 64'), {})
    lines = capsys.readouterr().out.splitlines()[-7:]
    change = {name: float(value) for name, value in map(str.split, lines)}
    assert change['GC'] == change['AWConv2d'] == 0 < change['BA2M'] < 0.5
    # as in the page, these shut half of each branch
    assert min(change[name] for name in ('SE', 'ECA', 'SAAM')) > 0.1
