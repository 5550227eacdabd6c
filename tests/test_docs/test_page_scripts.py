"""Scripts in pages, run on tiny data."""

import re

import pytest
from code_blocks import ROOT, find_blocks
from mmengine.config import Config


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
    lines = capsys.readouterr().out.splitlines()[-6:]
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


def test_decay_alone(capsys):
    code = find_script('test_decay_alone')
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    found = [float(line.split()[-1]) for line in lines]
    noted = re.findall('# (.*)', code)
    expected = [float(text) for texts in noted for text in texts.split()]
    assert len(found) == 8
    assert found[:7] == pytest.approx(expected[:7], abs=0.005)
    assert found[7] == pytest.approx(expected[7], abs=5e-9)
