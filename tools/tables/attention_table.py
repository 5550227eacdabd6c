"""Writes the table of docs/attention.md: what each attention module costs.

The rows are the configs for ResNet-50 on ImageNet with BA²M and in
configs/attention/. Times are of the files docs/benchmarks/attention*.json, a
column for each, that benchmark_backbone.py wrote for these configs.
"""

import argparse
import inspect
import json
from functools import partial
from pathlib import Path

from paper_tables import (
    ROOT,
    build,
    format_options,
    format_row,
    load_config,
    load_tables,
    measure,
)

from mmba2m.models.attentions import SASA, AAConv2d
from mmba2m.models.backbones.slots import find_attention, to_entries
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.attentions.ba2m.branches import GlobalSpatialAttention
from mmba2m.checkpoints.benchmark.report import (
    describe_environment,
    describe_options,
    title_measure,
)
from mmba2m.checkpoints.benchmark.timing import median_interval, paired_ratios
from mmba2m.inspect.pages import replace_section

PLAIN = 'configs/resnet/resnet50_8xb32-90e_in1k.py'
BA2M_CONFIG = 'configs/resnet/ba2m-resnet50_8xb32-90e_in1k.py'
FOLDER = 'configs/attention'
SIZE = (224, 224)
BEGIN = '<!-- written by tools/tables/attention_table.py -->'
#: the child that sees the maps of an attention over positions
ATTENDING = {AAConv2d: 'proj', GlobalSpatialAttention: 'proj', SASA: 'pool'}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--page',
        type=Path,
        default=ROOT / 'docs/attention.md',
        help='the page with the table, docs/attention.md by default',
    )
    parser.add_argument(
        '--benchmarks',
        type=Path,
        default=ROOT / 'docs/benchmarks',
        help='folder of attention*.json, docs/benchmarks by default',
    )
    return parser.parse_args()


def list_configs():
    """Lists the configs of the rows, BA²M's first."""
    found = (ROOT / FOLDER).glob('*-resnet50_8xb32-90e_in1k.py')
    return [BA2M_CONFIG, *sorted(f'{FOLDER}/{path.name}' for path in found)]


def load_benchmarks(folder):
    """Reads the runs whose times the table shows.

    Args:
        folder (Path): With attention*.json, or none.

    Returns:
        list[tuple[dict, dict]]: Runs, with their measure of training steps.

    Raises:
        ValueError: If a run has none, or is not relative to plain ResNet-50.
    """
    runs = []
    for path in sorted(folder.glob('attention*.json')):
        run = json.loads(path.read_text(encoding='utf-8'))
        found = [m for m in run['measures'] if m['kind'] == 'train']
        if not found:
            raise ValueError(f'{path} has no training steps')
        baseline = next(iter(found[0]['seconds']))
        if Path(baseline).name != Path(PLAIN).name:
            raise ValueError(
                f'{path}: the first network is {baseline}, not {PLAIN}'
            )
        runs.append((run, found[0]))
    return runs


def find_device(run):
    """Names what a benchmark ran on."""
    environment = run['environment']
    return environment.get('gpu', environment.get('cpu', 'an unknown CPU'))


def format_table(configs, runs):
    """Writes the table and what is to be said about its numbers.

    Args:
        configs (Sequence[str]): Those of the rows, relative to the root.
        runs (Sequence[tuple[dict, dict]]): From :func:`load_benchmarks`.

    Returns:
        str: Markdown.
    """
    heads = ['module', 'what it does', 'where', 'config', 'parameters']
    heads += ['FLOPs, 10⁶']
    heads += [f'training step, {find_device(r)}' for r, _ in runs] or [
        'training step'
    ]
    heads += ["top-1 error, % (the BA²M paper's)"]
    lines = [format_row(heads), format_row(['---'] * len(heads))]
    params, flops = measure(PLAIN, {}, SIZE)
    errors = find_errors()
    plain_cells = ['', '', link(PLAIN), f'{params:,}', f'{flops / 1e6:,.1f}']
    plain_cells += ['1'] * max(len(runs), 1)
    lines.append(format_row(['none', *plain_cells, errors[PLAIN]]))
    products = {}
    for path in configs:
        cls, options, where = describe(path)
        name = f'[`{cls.__name__}`](../{find_source(cls)})'
        if options:
            name += f'<br>{format_options(options)}'
        counts = measure(path, {}, SIZE)
        cells = [name, inspect.getdoc(cls).splitlines()[0], where, link(path)]
        cells += [f'{counts[0] - params:+,}']
        cells += [f'{(counts[1] - flops) / 1e6:+,.1f}']
        cells += [format_time(path, m['seconds']) for _, m in runs] or ['–']
        lines.append(format_row([*cells, errors.get(path, '–')]))
        if cls in (AAConv2d, BA2M, SASA):
            products[cls.__name__] = count_products(path) / 1e6
    text = ['\n'.join(lines)]
    text.append(
        'FLOPs are counted as in [model_zoo.md](model_zoo.md), so without '
        'products of queries, keys and values. Those are '
        + ', '.join(f'{n:.0f} in `{name}`' for name, n in products.items())
        + '.'
    )
    for run, found in runs:
        rounds = len(next(iter(found['seconds'].values())))
        spread = '95 % interval of it' if rounds > 5 else 'range'
        text.append(
            f'On {find_device(run)}: {title_measure(found)}, '
            f'{describe_options(run)}, relative to the plain network in the '
            f'same round, median and {spread} of {rounds} rounds '
            f'({describe_environment(run)}).'
        )
    return '\n\n'.join(text) + '\n'


def describe(path):
    """Says which module a config has, with which options, and where.

    Args:
        path (str): The config, relative to the root.

    Returns:
        tuple[type, dict, str]: The class, its own options, and the place.
    """
    backbone = load_config(path).model.backbone
    entries = to_entries(backbone.get('attention'))
    if not entries:
        entries = [dict(type='BA2M', **backbone.ba2m_cfg)]
    cls = find_attention(entries[0]['type'])
    position = entries[0].get('position', cls.positions[0])
    stages = [entry.get('stages', (True,) * 4) for entry in entries]
    stages = [
        i for i, on in enumerate(zip(*stages, strict=True), 1) if any(on)
    ]
    where = f'`{position}`, stages {stages[0]}–{stages[-1]}'
    options = {
        key: value
        for key, value in entries[0].items()
        if key not in ('type', 'position', 'stages')
    }
    return cls, options if len(entries) == 1 else {}, where


def find_source(cls):
    return Path(inspect.getsourcefile(cls)).relative_to(ROOT).as_posix()


def link(path):
    return f'[{Path(path).stem.partition("_")[0]}](../{path})'


def find_errors():
    """Finds the paper's top-1 errors of Table V, by config."""
    (table,) = [t for t in load_tables() if t['table'] == 'V']
    return {
        row['config']: row['paper']['top1_error']
        for row in table['rows']
        if row['config'] and not row.get('cfg_options')
    }


def format_time(path, seconds):
    """Formats the ratio of a config's times to the first network's."""
    baseline = next(iter(seconds.values()))
    for name, times in seconds.items():
        if Path(name).name == Path(path).name:
            ratios = paired_ratios(times, baseline)
            return '{:.3f} ({:.3f}–{:.3f})'.format(*median_interval(ratios))
    return '–'


def count_products(path):
    """Counts multiply-adds of queries with keys and weights with values.

    By their definition: without what is computed beyond it to save memory.

    Args:
        path (str): The config, relative to the root.

    Returns:
        int: For one image.
    """
    network, run = build(load_config(path), SIZE)
    total = 0

    def add(parent, child, inputs, output):
        nonlocal total
        _, channels, h, w = inputs[0].shape
        positions = h * w
        if isinstance(parent, SASA):
            # each with q · k, weight · v and, for rows and columns, q · r / 2
            k = parent.window_size
            total += positions * channels * (2 * k * k + k)
        elif isinstance(parent, AAConv2d):
            keys = parent.key_channels
            total += positions**2 * (keys + channels)
            total += positions * (h + w) * keys
        else:
            limit = parent.max_kv_size
            total += positions * min(h, limit) * min(w, limit) * 2 * channels

    for module in network.modules():
        if type(module) in ATTENDING:
            child = getattr(module, ATTENDING[type(module)])
            child.register_forward_hook(partial(add, module))
    run()
    return total


def main():
    args = parse_args()
    runs = load_benchmarks(args.benchmarks)
    table = format_table(list_configs(), runs)
    page = args.page.read_text(encoding='utf-8')
    page = replace_section(page, BEGIN, table)
    args.page.write_text(page, encoding='utf-8')
    print(f'wrote {args.page}')


if __name__ == '__main__':
    main()
