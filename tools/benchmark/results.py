"""The table and the chart of what benchmark_backbone.py measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from terminaltables import GithubFlavoredMarkdownTable


def format_runs(runs: Sequence[dict]) -> str:
    """Writes for each run what it was, and a Markdown table a measure."""
    texts = []
    for run in runs:
        texts.append(f'{run["network"]} ({run["environment"]}).')
        texts += map(_format_measure, run['measures'])
    return '\n\n'.join(texts)


def _format_measure(measure: dict) -> str:
    first = measure['rows'][0]
    long = np.median(first['seconds']) >= 1
    title = f'{measure["title"]} ({len(first["seconds"])} rounds)'
    versus = f'× {first["name"]}'
    rows = [[title, 'parameters', f'time [{"s" if long else "ms"}]', versus]]
    rows[0] += ['peak memory [MiB]', versus]
    for row in measure['rows']:
        ratio = '{:.3f} ({:.3f}–{:.3f})'.format(*row['ratio'])
        memory = f'{row["peak_bytes"] / first["peak_bytes"]:.3f}'
        seconds = np.median(row['seconds']) * (1 if long else 1000)
        if row is first:
            ratio = memory = '1'
        cells = [row['name'], f'{row["parameters"]:,}', f'{seconds:.4g}']
        rows.append(
            [*cells, ratio, f'{row["peak_bytes"] / 2**20:.0f}', memory]
        )
    table = GithubFlavoredMarkdownTable(rows)
    table.justify_columns = dict.fromkeys(range(1, 6), 'right')
    return table.table


def draw_runs(runs: Sequence[dict], out: Path) -> None:
    """Draws the ratios to the first network, with their intervals."""
    measures = [(run, measure) for run in runs for measure in run['measures']]
    heights = [len(measure['rows']) * 0.28 + 0.6 for _, measure in measures]
    figure = Figure((10, sum(heights)), layout='constrained')
    kwargs = dict(height_ratios=heights, sharey='row', squeeze=False)
    axes = figure.subplots(len(measures), 2, **kwargs)
    for (left, right), (run, measure) in zip(axes, measures, strict=True):
        first, *rows = measure['rows']
        names = [row['name'] for row in rows]
        memory = [row['peak_bytes'] / first['peak_bytes'] for row in rows]
        _draw_bars(left, names, [row['ratio'] for row in rows])
        _draw_bars(right, names, [[ratio] * 3 for ratio in memory])
        left.set_xlabel(f'time relative to {first["name"]} (×)')
        right.set_xlabel(f'peak memory relative to {first["name"]} (×)')
        left.set_title(measure['title'], fontsize=10, loc='left')
        right.set_title(run['network'], fontsize=8, loc='right')
    figure.savefig(out, dpi=120)


def _draw_bars(axis: Axes, names: list[str], values: list) -> None:
    """Draws (median, low, high) as bars that begin at 1."""
    middle, low, high = np.reshape(values, (-1, 3)).T
    places = np.arange(len(names))
    look = dict(left=1, color='0.7', edgecolor='0.2', capsize=3)
    errors = [middle - low, high - middle]
    bars = axis.barh(places, middle - 1, xerr=errors, **look)
    axis.bar_label(bars, [f'{value:.3f}' for value in middle], padding=4)
    axis.set_yticks(places, names)
    axis.axvline(1, color='0.2', linewidth=1)
    axis.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axis.margins(x=0.2)
