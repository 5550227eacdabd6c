"""The table and the chart of what benchmark_backbone.py measured."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from terminaltables import GithubFlavoredMarkdownTable


def format_runs(runs: Sequence[dict]) -> str:
    """Writes for each run what it was, and a Markdown table a measure."""
    return '\n\n'.join(
        text
        for run in runs
        for text in (
            f'{run["network"]} ({run["environment"]}).',
            *map(_format_measure, run['measures']),
        )
    )


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
        seconds = np.median(row['seconds'])
        rows.append(
            [
                row['name'],
                f'{row["parameters"]:,}',
                f'{seconds if long else seconds * 1000:.4g}',
                '1' if row is first else ratio,
                f'{row["peak_bytes"] / 2**20:.0f}',
                '1' if row is first else memory,
            ]
        )
    table = GithubFlavoredMarkdownTable(rows)
    table.justify_columns = dict.fromkeys(range(1, 6), 'right')
    return table.table


def draw_runs(runs: Sequence[dict], out: Path) -> None:
    """Draws the ratios to the first network, with their intervals."""
    measures = [(run, measure) for run in runs for measure in run['measures']]
    heights = [len(measure['rows']) * 0.28 + 0.6 for _, measure in measures]
    figure, axes = plt.subplots(
        len(measures),
        2,
        figsize=(10, sum(heights)),
        height_ratios=heights,
        sharey='row',
        layout='constrained',
        squeeze=False,
    )
    for (left, right), (run, measure) in zip(axes, measures, strict=True):
        first, *rows = measure['rows']
        names = [row['name'] for row in rows]
        time = [row['ratio'] for row in rows]
        memory = [
            [row['peak_bytes'] / first['peak_bytes']] * 3 for row in rows
        ]
        _draw_bars(left, names, time)
        _draw_bars(right, names, memory)
        left.set_xlabel(f'time relative to {first["name"]} (×)')
        right.set_xlabel(f'peak memory relative to {first["name"]} (×)')
        left.set_title(measure['title'], fontsize=10, loc='left')
        right.set_title(run['network'], fontsize=8, loc='right')
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _draw_bars(axis: plt.Axes, names: list[str], values: list) -> None:
    """Draws (median, low, high) as bars that begin at 1."""
    middle, low, high = np.reshape(values, (-1, 3)).T
    places = np.arange(len(names))
    bars = axis.barh(
        places,
        middle - 1,
        left=1,
        color='0.7',
        edgecolor='0.2',
        xerr=[middle - low, high - middle],
        capsize=3,
    )
    axis.bar_label(bars, [f'{value:.3f}' for value in middle], padding=4)
    axis.set_yticks(places, names)
    axis.axvline(1, color='0.2', linewidth=1)
    axis.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axis.margins(x=0.2)
