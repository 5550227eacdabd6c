"""Writes the table of docs/attention.md: what each attention module costs.

The rows are the configs for ResNet-50 on ImageNet with BA²M and in
configs/attention/. Times are of the files docs/benchmarks/attention*.json, a
column for each, that benchmark_backbone.py wrote for these configs.
"""

import argparse
import inspect
import json
from pathlib import Path

import torch
from paper_tables import ROOT, build, load_config, load_rows
from terminaltables import GithubFlavoredMarkdownTable
from torch.utils.flop_counter import FlopCounterMode

from mmba2m.inspect.complexity import count_flops, count_parameters
from mmba2m.inspect.pages import replace_section
from mmba2m.models.backbones.slots import find_attention, to_entries

PAGE = ROOT / 'docs/attention.md'
PLAIN = 'configs/resnet/resnet50_8xb32-90e_in1k.py'
BA2M_CONFIG = 'configs/resnet/ba2m-resnet50_8xb32-90e_in1k.py'
BEGIN = '<!-- written by tools/tables/attention_table.py -->'


def parse_args():
    return argparse.ArgumentParser(description=__doc__).parse_args()


def list_configs() -> list[str]:
    """Lists the configs of the rows, BA²M's first."""
    found = ROOT.glob('configs/attention/*-resnet50_8xb32-90e_in1k.py')
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    return [BA2M_CONFIG, *names]


def load_benchmarks(folder: Path) -> list[dict]:
    """Reads what benchmark_backbone.py wrote, PLAIN first, if any."""
    paths = sorted(folder.glob('attention*.json'))
    return [json.loads(path.read_text('utf-8')) for path in paths]


def format_table(configs: list[str], runs: list[dict]) -> str:
    """Writes the table of configs, and what times were measured with."""
    cells = [['module', 'what it does', 'where', 'config', 'parameters']]
    cells[0] += ['FLOPs, 10⁶', 'products of maps, 10⁶']
    cells[0] += [f'training step, {run["device"]}' for run in runs]
    cells[0] += ["top-1 error, % (the BA²M paper's)"]
    errors = {
        row['config']: row['top-1 error, %']
        for row in load_rows()
        if row['table'] == 'V' and not row['options']
    }
    times = [
        {
            row['name']: '{:.3f} ({:.3f}–{:.3f})'.format(*row['ratio'])
            for row in run['measures'][0]['rows']
        }
        for run in runs
    ]
    base = (0, 0)
    for path in [PLAIN, *configs]:
        params, flops, products = count(path)
        sign = '+' if path != PLAIN else ''
        row = describe(path) if sign else ['none', '', '']
        row += [f'[{Path(path).stem.partition("_")[0]}](../{path})']
        row += [f'{params - base[0]:{sign},}', f'{flops - base[1]:{sign},.1f}']
        row += [f'{products:,.1f}']
        row += [known.get(Path(path).stem, '–') for known in times]
        cells.append([*row, errors.get(path, '–')])
        if path == PLAIN:
            base = params, flops
    text = [GithubFlavoredMarkdownTable(cells).table]
    for run in runs:
        measure = run['measures'][0]
        rounds = len(measure['rows'][0]['seconds'])
        text.append(
            f'On {run["device"]}: {measure["title"]}, {run["network"]}, '
            'relative to the plain network in the same round: median of '
            f'{rounds} rounds and its interval ({run["environment"]}).'
        )
    return '\n\n'.join(text)


def count(path: str) -> tuple[int, float, float]:
    """Counts parameters, and 10⁶ multiply-adds of layers and of products."""
    network, run = build(load_config(path), (224, 224))
    flops = count_flops(network, run)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    products = counter.get_flop_counts()['Global'].get(torch.ops.aten.bmm, 0)
    return count_parameters(network), flops / 1e6, products / 2e6


def describe(path: str) -> list[str]:
    """Says which module a config has with which options, what it is, where."""
    backbone = load_config(path).model.backbone
    entries = to_entries(backbone.get('attention'))
    entries = entries or [dict(type='BA2M', **backbone.ba2m_cfg)]
    on = [entry.get('stages') or [True] * 4 for entry in entries]
    stages = [i for i in range(4) if any(mask[i] for mask in on)]
    options = dict(entries[0])
    options.pop('stages', None)
    cls = find_attention(options.pop('type'))
    position = options.pop('position', cls.positions[0])
    types = dict.fromkeys(find_attention(entry['type']) for entry in entries)
    sources = {t: Path(inspect.getsourcefile(t)) for t in types}
    name = ' + '.join(
        f'[`{t.__name__}`](../{source.relative_to(ROOT).as_posix()})'
        for t, source in sources.items()
    )
    if options and len(entries) == 1:
        name += '<br>' + ' '.join(f'`{k}={v}`' for k, v in options.items())
    where = f'`{position}`, stages {stages[0] + 1}–{stages[-1] + 1}'
    return [name, inspect.getdoc(cls).splitlines()[0], where]


def main():
    parse_args()
    runs = load_benchmarks(ROOT / 'docs/benchmarks')
    table = format_table(list_configs(), runs)
    page = replace_section(PAGE.read_text('utf-8'), BEGIN, table)
    PAGE.write_text(page, 'utf-8')
    print(f'wrote {PAGE}')


if __name__ == '__main__':
    main()
