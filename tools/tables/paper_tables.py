"""Writes docs/model_zoo.md: the paper's tables, and our networks beside them.

Builds the network of every row that has a config and counts its parameters
and FLOPs. The rows are in paper_rows/, with the figures as the paper prints
them; those of the hosts' own networks come from their metafiles.
"""

import argparse
import copy
import csv
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
import yaml
from mmengine.config import Config, DictAction
from mmengine.utils import get_installed_path
from terminaltables import GithubFlavoredMarkdownTable
from torch import nn

from mmba2m.inspect.complexity import (
    build_on_meta,
    count_flops,
    count_parameters,
)
from mmba2m.inspect.pages import replace_section

ROOT = Path(__file__).parents[2]
ROWS = Path(__file__).parent / 'paper_rows'
PAGE = ROOT / 'docs/model_zoo.md'
BEGIN = '<!-- written by tools/tables/paper_tables.py -->'
#: relative difference of FLOPs that counts as equal
FLOPS_TOLERANCE = 0.01


def load_rows() -> list[dict[str, str]]:
    """Reads the rows of all tables: for each its columns in rows.csv.

    They are '' where the paper or we have nothing: ``config`` (relative to
    the root) with ``options`` as for ``--cfg-options``, ``reading`` (options
    under which the printed FLOPs come out), ``note`` (a key of ``notes`` in
    tables.yml), parameters in 10⁶ or Mi and FLOPs in 10⁹; all behind these
    are accuracies.
    """
    with (ROWS / 'rows.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row['config']:
            row['config'] = f'configs/{row["config"]}.py'
    return rows


def parse_options(options: str) -> dict:
    """Reads options as the tools read ``--cfg-options``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction)
    return parser.parse_args(['--options', *options.split()]).options


@cache
def load_config(path: str) -> Config:
    """Loads a config once: reading the hosts' bases takes a second."""
    return Config.fromfile(ROOT / path)


@cache
def measure(
    path: str, options: str, image_size: tuple[int, int]
) -> tuple[int, int]:
    """Counts parameters and multiply-adds of a config with options."""
    cfg = copy.deepcopy(load_config(path))
    cfg.merge_from_dict(parse_options(options))
    network, run = build(cfg, image_size)
    return count_parameters(network), count_flops(network, run)


def build(
    cfg: Config, image_size: tuple[int, int]
) -> tuple[nn.Module, Callable[[], None]]:
    """Builds a network on the meta device, and what runs it once."""
    network = build_on_meta(cfg).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # on the meta device a norm is slow
            module.forward = lambda x: x
    images = torch.empty(1, 3, *image_size, device='meta')
    if cfg.default_scope == 'mmpretrain':
        return network, partial(network, images, mode='tensor')
    return network, partial(run_detector, network, images)


def run_detector(network, images):
    """Runs all layers once, without choosing regions by their score."""
    maps = network.extract_feat(images)
    if not hasattr(network, 'roi_head'):
        network.bbox_head(maps)
        return
    network.rpn_head(maps)
    heads = network.roi_head
    parts = [(heads.bbox_roi_extractor, heads.bbox_head, 1000)]
    if heads.with_mask:
        parts.append((heads.mask_roi_extractor, heads.mask_head, 100))
    for extractor, head, regions in parts:
        size = extractor.roi_layers[0].output_size
        maps = torch.empty(regions, extractor.out_channels, *size)
        head(maps.to('meta'))


@cache
def load_stock() -> dict[str, dict[str, float]]:
    """Reads what the hosts have for their own networks, by ``stock_key``."""
    found = {}
    for host in ('mmdet', 'mmpretrain'):
        folder = Path(get_installed_path(host), '.mim/configs')
        for path in folder.glob('*/metafile.yml'):
            content = yaml.safe_load(path.read_text(encoding='utf-8'))
            if isinstance(content, list):  # MMDetection's of objects365
                continue
            for model in content.get('Models', ()):
                metrics = found.setdefault(stock_key(model['Name']), {})
                for result in model.get('Results') or ():
                    metrics.update(result.get('Metrics') or {})
    return found


def stock_key(name: str) -> str:
    """Takes batch and epochs from a config's name: 'resnet50_in1k'."""
    return re.sub(r'_\d+xb\d+(-\d+e)?_', '_', name).replace('-', '')


def find_stock(config: str, metric: str) -> str:
    """Finds a metric, as an error if it is an accuracy, or ''."""
    value = load_stock().get(stock_key(Path(config).stem), {}).get(metric)
    if value is None:
        return ''
    return f'{100 - value if "Accuracy" in metric else value:.2f}'


def format_tables() -> str:
    """Builds all networks and formats the tables as Markdown."""
    content = yaml.safe_load((ROWS / 'tables.yml').read_text(encoding='utf-8'))
    sections = []
    for name, table in content['tables'].items():
        rows = [row for row in load_rows() if row['table'] == name]
        used = [row['note'] for row in rows if row['note']]
        used = list(dict.fromkeys(used))  # in their order, each once
        sections.append(f'## Table {name}: {table["title"]}\n')
        if 'note' in table:
            sections.append(table['note'] + '\n')
        size, stock = tuple(table['image_size']), table.get('stock', '')
        sections.append(format_rows(rows, used, size, stock))
        for i, note in enumerate(used, 1):
            sections.append(f'({i}) {content["notes"][note]}\n')
    return '\n'.join(sections)


def format_rows(rows, notes, image_size, stock=''):
    columns = list(rows[0])
    metrics = columns[columns.index('FLOPs') + 1 :]
    metrics = [name for name in metrics if any(row[name] for row in rows)]
    cells = [['network', 'config', 'parameters', 'FLOPs']]
    cells[0] += [f"{name} (paper's)" for name in metrics]
    if stock:
        cells[0].append(f'{metrics[0]} (stock)')
    for row in rows:
        name = row['network']
        if row['note']:
            name += f' ({notes.index(row["note"]) + 1})'
        figures = [row[metric] for metric in metrics]
        if stock:
            own = '' if row['options'] else row['config']
            figures.append(find_stock(own, stock))
        cells.append([name, *format_network(row, image_size), *figures])
    return GithubFlavoredMarkdownTable(cells).table + '\n'


def format_network(row, image_size):
    """Formats config, parameters and FLOPs, ours beside the paper's."""
    printed, unit = row['parameters'], 10**6
    if printed.endswith(' Mi'):
        printed, unit = printed.removesuffix(' Mi'), 2**20
    if not row['config']:
        return '', compare(None, printed, 0), compare(None, row['FLOPs'], 0)
    config, options = row['config'], row['options']
    link = f'[{Path(config).stem}](../{config})'
    if options:
        link += f'<br>`{options.replace(" ", "` `")}`'
    params, flops = measure(config, options, image_size)
    params = compare(params / unit, printed, 0)
    if unit == 2**20:
        params = params.replace(' /', ' Mi /')
    flops = compare(flops / 1e9, row['FLOPs'], FLOPS_TOLERANCE)
    if row['reading']:
        other = f'{options} {row["reading"]}'
        other = measure(config, other, image_size)[1] / 1e9
        other = compare(other, row['FLOPs'], FLOPS_TOLERANCE)
        flops += f', as `{row["reading"]}` {other}'
    return link, params, flops


def compare(ours: float | None, printed: str, tolerance: float) -> str:
    """Formats ours and the printed figure, with ✓ or the difference.

    E.g. ``24.21 / 24.21 ✓`` or ``27.76 / 26.21 (+1.55)``. What is equal
    differs by half a unit of the last printed digit, or a relative tolerance.
    """
    if not printed:
        return '' if ours is None else f'{ours:.2f} / –'
    if ours is None:
        return f'– / {printed}'
    digits = len(printed.partition('.')[2])
    difference = ours - float(printed)
    limit = max(0.5001 * 10**-digits, tolerance * float(printed))
    equal = abs(difference) <= limit
    verdict = '✓' if equal else f'({difference:+.{max(digits, 2)}f})'
    return f'{ours:.{max(digits, 2)}f} / {printed} {verdict}'


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    page = PAGE.read_text(encoding='utf-8')
    page = replace_section(page, BEGIN, format_tables())
    PAGE.write_text(page, encoding='utf-8')
    print(f'wrote {PAGE}')


if __name__ == '__main__':
    main()
