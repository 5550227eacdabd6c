"""Tables of docs/ that say what the code says: counts and versions."""

import re

from code_blocks import ROOT

from mmba2m import stack
from mmba2m.models.attentions import BA2M


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


# docs/install.md


def test_versions():
    versions, stacks, _, extras = read_tables('docs/install.md')
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


def test_versions_by_hand():
    page = (ROOT / 'docs/install.md').read_text('utf-8')
    pins = (ROOT / 'requirements/openmmlab.in').read_text().split()
    named = re.findall(r'\b[a-z]+==[\d.]+', page)
    assert named and set(named) <= set(pins)
