"""Tables of docs/ that say what the code says: options, counts, versions."""

import ast
import inspect
import re

import numpy as np
import pytest
from code_blocks import ROOT, read_blocks, run_shell
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmba2m.engine.hooks import BA2MAnnealHook
from mmba2m.models.backbones.slots import AttentionMixin
from mmba2m.models.backbones.ba2m_stages import BA2MStagesMixin
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.attentions.ba2m.module import INFERENCE_MODES
from mmba2m.checkpoints import stack


def read_tables(page):
    """The tables of a page: for each, its rows as lists of cells."""
    tables, rows = [], []
    for line in [*(ROOT / page).read_text('utf-8').splitlines(), '']:
        if line.startswith('|'):
            rows.append([cell.strip() for cell in line.strip('|').split('|')])
        elif rows:
            tables.append(rows[2:])
            rows = []
    return tables


def numbers(cells):
    return [int(cell.replace(',', '')) for cell in cells]


# docs/options.md


def defaults_of(*callables):
    return {
        name: parameter.default
        for function in callables
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def test_options():
    backbone, module, inference, hook = read_tables('docs/options.md')
    for rows, *callables in (
        (backbone, BA2MStagesMixin.__init__, AttentionMixin.__init__),
        (module, BA2M),
        (hook, BA2MAnnealHook),
    ):
        found = {
            name.strip('`'): eval(default.strip('`'), {'dict': dict})
            for name, default, *_ in rows
        }
        assert found == defaults_of(*callables)
    modes = [ast.literal_eval(mode.strip('`')) for mode, *_ in inference]
    assert tuple(modes) == INFERENCE_MODES


# docs/parameters.md


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_formulas():
    formulas, modules, _ = read_tables('docs/parameters.md')
    formulas = [row[-1].strip('`') for row in formulas]
    assert len(modules) == 5
    for row in modules:
        channels, reduction, *counts = numbers(row)
        module = BA2M(channels, reduction)
        assert counts == [
            count(module.channel),
            count(module.local_spatial),
            count(module.global_spatial),
            count(module),
        ]
        names = dict(C=channels, d=channels // reduction)
        assert counts == [eval(formula, names) for formula in formulas]


#: their configs, but for the last layer's classes and the module
PLAIN = {
    'ResNet-50, CIFAR-100': 'resnet/resnet50_1xb256-300e_cifar100',
    'ResNet-101, CIFAR-100': 'resnet/resnet101_1xb256-300e_cifar100',
    'ResNet-18, ImageNet': 'resnet/resnet18_8xb32-90e_in1k',
    'ResNet-34, ImageNet': 'resnet/resnet34_8xb32-90e_in1k',
    'ResNet-101, ImageNet': 'resnet/resnet101_8xb32-90e_in1k',
    'ResNeXt-50, ImageNet': 'resnext/resnext50-32x4d_8xb32-90e_in1k',
    'ResNeXt-101, ImageNet': 'resnext/resnext101-32x4d_8xb32-90e_in1k',
}


def test_networks(monkeypatch):
    pytest.importorskip('mmpretrain')
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    _, _, rows = read_tables('docs/parameters.md')
    init_default_scope('mmpretrain')
    plain = {}
    for name, path in PLAIN.items():
        cfg = Config.fromfile(ROOT / f'configs/{path}.py')
        plain[name] = count(MODELS.build(cfg.model))
    assert {row[0] for row in rows} == set(plain)
    for name, without, widths, reduction, total, unit, printed in rows:
        added = sum(
            count(BA2M(int(width), int(reduction))) for width in widths.split()
        )
        assert numbers([without, total]) == [plain[name], plain[name] + added]
        assert unit == f'{(plain[name] + added) / 2**20:.3f}'
        assert abs(float(unit) - float(printed)) <= 0.0051


def test_fit():
    """What the page says of the least squares fit to Table VIII."""
    text = (ROOT / 'docs/parameters.md').read_text('utf-8')
    _, _, rows = read_tables('docs/parameters.md')
    rows = [row for row in rows if row[0] == 'ResNet-50, CIFAR-100']
    reductions = np.array([float(row[3]) for row in rows])
    printed = np.array([float(row[-1]) for row in rows])
    widths = np.array([256, 512, 1024, 2048])
    squares = (widths**2).sum()
    terms = np.stack([squares / reductions, squares / reductions**2], 1)
    missed = {}
    for unit in (10**6, 2**20):
        added = printed * unit - numbers([rows[0][1]])[0] - 3 * widths.sum()
        (a, b), *_ = np.linalg.lstsq(terms, added, rcond=None)
        missed[unit] = np.abs(terms @ (a, b) - added).max()
    assert f'a = {a:.3f} and b = {b:.3f}' in text
    assert f'by {round(missed[10**6], -3):,.0f};' in text
    assert missed[2**20] < 600 and 'more than 600' in text
    in_d = (a - 9) * squares / widths.sum()
    assert f'about {in_d:.0f} d' in text
    assert f'{0.005 * 2**20:,.0f}' in text


# docs/install.md


def test_versions():
    versions, stacks, extras = read_tables('docs/install.md')
    for name, versions_, onedl in versions:
        distributions, wanted = stack.SUPPORTED[name]
        assert versions_.strip('`') == wanted
        assert not onedl or onedl in distributions
    assert {row[0] for row in versions} == set(stack.SUPPORTED)
    for name, torch, *_ in stacks:
        path = ROOT / f'requirements/{name.split("`")[1]}.in'
        assert f'torch=={torch}\n' in path.read_text()
    for name, _ in extras:
        assert (ROOT / f'requirements/{name.strip("`")}.txt').is_file()


def test_versions_by_hand(tmp_path):
    """The packages that the page installs by hand are those of the stack."""
    (block,) = (b for b in read_blocks('docs/install.md') if b.mark)
    named = {
        word
        for _, words in run_shell([block], tmp_path)
        for word in words[2:]
        if re.match(r'[a-z]+\b', word) and word != 'mmcv'
    }
    lines = (ROOT / 'requirements/openmmlab.in').read_text().splitlines()
    pins = {line for line in lines if line and not line.startswith('#')}
    assert {pin for pin in pins if '==' in pin} <= named <= pins
