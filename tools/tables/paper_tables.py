"""Writes docs/model_zoo.md: the paper's tables, and our networks beside them.

Builds the network of every row that has a config and counts its parameters
and FLOPs. The rows are in paper_rows/, with the figures as the paper prints
them.
"""

import argparse
import copy
from functools import cache, partial
from pathlib import Path

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmba2m.inspect.complexity import count_flops, count_parameters

ROOT = Path(__file__).parents[2]
ROWS = Path(__file__).parent / 'paper_rows'
NUMERALS = ('I', 'II', 'III', 'IV', 'V', 'VI', 'VII', 'VIII', 'IX', 'X')
NUMERALS += ('XI', 'XII', 'XIII', 'XIV', 'XV', 'XVI')
#: accuracies of the rows, and what their columns are called
METRICS = dict(
    error='error, %',
    std='std',
    top1_error='top-1 error, %',
    top5_error='top-5 error, %',
    recall='Recall, %',
    mAP='mAP, %',
    AP='AP',
    AP50='AP50',
    AP75='AP75',
    APs='AP small',
    APm='AP medium',
    APl='AP large',
)

HEAD = """\
# Model zoo: the paper's tables

Written by `python tools/tables/paper_tables.py`, which builds the
network of each config; a test fails when this page is out of date.

- **Parameters** in millions, ours / the paper's. The paper counts networks
  without BA²M in units of 10⁶ and, by all signs, those with it in units of
  2²⁰ = 1,048,576 (its Table VIII makes no sense otherwise); ours are given in
  the unit of the row, marked Mi where it is 2²⁰.
- **FLOPs** in 10⁹, ours / the paper's: multiply-adds of convolutions and
  linear layers, and two per value of a norm; matrix products of attention do
  not count. Classifiers at 32×32 (CIFAR-100) or 224×224 (ImageNet), detectors
  at 800×1333 (COCO) or 600×1000 (VOC) with 1000 regions and 100 masks. The
  paper prints none for detectors.
- **Accuracies are the paper's**, as printed. None of ours appears here: these
  trainings have not been run with this code. What has been measured is in
  [results.md](results.md).
- ✓ agrees with the paper to half a unit of its last digit, FLOPs also within
  1 %. Rows without a config are networks that are not here.

The paper's networks of bottleneck blocks without BA²M have the FLOPs of
blocks whose stride is in the first 1×1 convolution (`style='caffe'`), but for
some of Table V; those with BA²M of blocks with the stride in the 3×3 one. Ours
have the latter in all, so that they differ in the module alone. Of what BA²M
adds to the FLOPs there by the paper's figures, half or more is due to the
stride.
"""
#: relative difference of FLOPs that counts as equal
FLOPS_TOLERANCE = 0.01


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        default=ROOT / 'docs/model_zoo.md',
        help='the page, docs/model_zoo.md by default',
    )
    return parser.parse_args()


def load_tables():
    """Reads all tables, in the paper's order."""
    tables = [
        table
        for path in sorted(ROWS.glob('*.yml'))
        for table in yaml.safe_load(path.read_text(encoding='utf-8'))
    ]
    return sorted(tables, key=lambda table: NUMERALS.index(table['table']))


@cache
def load_config(path):
    """Loads a config once: reading the hosts' bases takes a second."""
    return Config.fromfile(ROOT / path)


def measure(path, options, image_size):
    """Counts a network, each only once; see :func:`build_and_count`."""
    return build_and_count(path, yaml.safe_dump(options), image_size)


@cache
def build_and_count(path, options, image_size):
    """Builds a config's network and counts; nothing is computed.

    Args:
        path (str): The config, relative to the root.
        options (str): ``--cfg-options`` as YAML.
        image_size (tuple[int]): Height and width.

    Returns:
        tuple[int]: Parameters and multiply-adds.
    """
    cfg = copy.deepcopy(load_config(path))
    cfg.merge_from_dict(yaml.safe_load(options))
    network, run = build(cfg, image_size)
    return count_parameters(network), count_flops(network, run)


def build(cfg, image_size):
    """Builds a config's network on the meta device.

    Args:
        cfg (Config): Of a classifier or detector.
        image_size (tuple[int]): Height and width.

    Returns:
        tuple[nn.Module, Callable]: The network, and what runs it once.
    """
    init_default_scope(cfg.default_scope)
    # not built on the meta device: the hosts read numbers off tensors
    network = MODELS.build(cfg.model).to('meta')
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = keep_shape  # on the meta device a norm is slow
    images = torch.empty(1, 3, *image_size, device='meta')
    run = run_classifier if cfg.default_scope == 'mmpretrain' else run_detector
    return network, partial(run, network, images)


def keep_shape(x):
    return x


def run_classifier(network, images):
    network(images, mode='tensor')


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


def format_page(tables):
    """Formats the whole page."""
    return '\n'.join([HEAD, *map(format_table, tables)])


def format_table(table):
    """Formats one of the paper's tables as Markdown."""
    metrics = {key for row in table['rows'] for key in row['paper']}
    metrics = [key for key in METRICS if key in metrics]
    heads = ['network', 'config', 'parameters', 'FLOPs']
    heads += [f"{METRICS[key]} (paper's)" for key in metrics]
    lines = [format_row(heads), format_row(['---'] * len(heads))]
    notes = []
    for row in table['rows']:
        label = row['label']
        if row.get('note'):
            if row['note'] not in notes:
                notes.append(row['note'])
            label += f' ({notes.index(row["note"]) + 1})'
        figures = [str(row['paper'].get(key, '')) for key in metrics]
        lines.append(
            format_row([label, *format_network(row, table), *figures])
        )
    text = [f'## Table {table["table"]}: {table["title"]}']
    if table.get('note'):
        text.append(table['note'].strip())
    text.append('\n'.join(lines))
    text += [f'({i}) {note.strip()}' for i, note in enumerate(notes, 1)]
    return '\n\n'.join(text) + '\n'


def format_row(cells):
    return f'| {" | ".join(cells)} |'


def format_network(row, table):
    """Formats config, parameters and FLOPs, ours beside the paper's."""
    paper = row['paper']
    unit = paper.get('params_unit', 10**6)
    image_size = tuple(table['image_size'])
    link, params, flops = '', None, None
    if row['config']:
        options = row.get('cfg_options') or {}
        params, flops = measure(row['config'], options, image_size)
        params, flops = params / unit, flops / 1e9
        link = f'[{Path(row["config"]).stem}](../{row["config"]})'
        if options:
            link += f'<br>{format_options(options)}'
    params = compare(params, paper.get('params'), 0)
    if unit == 2**20:
        params = params.replace(' /', ' Mi /')
    flops = compare(flops, paper.get('flops'), FLOPS_TOLERANCE)
    if row.get('reading'):
        options = dict(options, **row['reading'])
        other = measure(row['config'], options, image_size)[1] / 1e9
        other = compare(other, paper['flops'], FLOPS_TOLERANCE)
        flops += f', as {format_options(row["reading"])} {other}'
    return link, params, flops


def format_options(options):
    return ' '.join(
        f'`{key}={format_option(value)}`' for key, value in options.items()
    )


def format_option(value):
    """Formats a value as ``--cfg-options`` takes it."""
    if isinstance(value, list):
        return f'[{",".join(map(format_option, value))}]'
    return str(value)


def compare(ours, printed, tolerance):
    """Formats ours and the printed figure, with ✓ or the difference.

    Args:
        ours (float | None): Our figure, if there is one.
        printed (str | None): The paper's figure, if it prints one.
        tolerance (float): Relative difference that counts as equal, beside
            half a unit of the last printed digit.

    Returns:
        str: E.g. ``24.21 / 24.21 ✓`` or ``27.76 / 26.21 (+1.55)``.
    """
    if printed is None:
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
    args = parse_args()
    args.out.write_text(format_page(load_tables()), encoding='utf-8')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
