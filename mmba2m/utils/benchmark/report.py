"""Tables and charts of what was measured."""

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from .timing import median_interval, paired_ratios


def format_runs(runs):
    """Writes a Markdown table for each run.

    Args:
        runs (Sequence[dict]): As benchmark_backbone.py saves them.

    Returns:
        str: The tables, each below a line that says how it was measured.
    """
    return '\n\n'.join(_format_run(run) for run in runs) + '\n'


def describe_run(run):
    """Says in one line what a run measured, and how."""
    options = dict(run['backbone'])
    kind, depth = options.pop('type'), options.pop('depth', None)
    parts = [f'{kind}-{depth}' if depth else kind]
    parts += [f'{key}={value}' for key, value in options.items()]
    parts += [run['precision']]
    parts += ['channels_last'] if run['channels_last'] else []
    if run['compile']:
        parts.append(f'torch.compile of the {run["compile"]}')
    parts += ['with SGD'] if run['optimizer'] else []
    return ', '.join(parts)


def format_environment(environment):
    """Says in one line what a measurement was taken with."""
    return ', '.join(f'{key} {value}' for key, value in environment.items())


def title_measure(measure):
    """Names a measure with its batch and image size."""
    batch, _, height, width = measure['shape']
    name = dict(train='training step', inference='inference')[measure['kind']]
    return f'{name}, {batch} × {height}×{width}'


def _format_run(run):
    head = ['network', 'parameters']
    rows = {
        name: [label, f'{run["parameters"][name] / 1e6:.2f} M']
        for name, label in run['labels'].items()
    }
    for measure in run['measures']:
        baseline = next(iter(measure['seconds']))
        unit, scale = _choose_unit(measure['seconds'][baseline])
        head += [
            f'{title_measure(measure)} [{unit}]',
            f'× {run["labels"][baseline]}',
            'peak memory [MiB]',
            f'× {run["labels"][baseline]}',
        ]
        for name, row in rows.items():
            if name not in measure['seconds']:
                row += ['–'] * 4
                continue
            seconds = measure['seconds'][name]
            ratios = paired_ratios(seconds, measure['seconds'][baseline])
            peak = measure['peak_bytes'][name]
            row += [
                f'{median_interval(seconds)[0] * scale:.4g}',
                '1'
                if name == baseline
                else '{:.3f} ({:.3f}–{:.3f})'.format(*median_interval(ratios)),
                f'{peak / 2**20:.0f}',
                '1'
                if name == baseline
                else f'{peak / measure["peak_bytes"][baseline]:.3f}',
            ]
    lines = [head, [':--', *['--:'] * (len(head) - 1)], *rows.values()]
    rounds = ', '.join(
        f'{title_measure(m)}: {len(next(iter(m["seconds"].values())))}'
        for m in run['measures']
    )
    return '\n'.join(
        [
            f'{describe_run(run)}.',
            '',
            *('| ' + ' | '.join(line) + ' |' for line in lines),
            '',
            f'Rounds: {rounds}. {format_environment(run["environment"])}.',
        ]
    )


def _choose_unit(seconds):
    return ('s', 1) if median_interval(seconds)[0] >= 1 else ('ms', 1000)


def draw_runs(runs, out):
    """Draws the ratios to the first network, with their intervals.

    Args:
        runs (Sequence[dict]): As in :func:`format_runs`.
        out (str | Path): File to write, PNG or PDF.
    """
    panels = [
        panel for run in runs for panel in _list_panels(run)
    ]  # (title, axis label, {label: (ratio, low, high)})
    heights = [len(bars) * 0.3 + 0.9 for _, _, bars in panels]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(8, sum(heights)),
        height_ratios=heights,
        layout='constrained',
        squeeze=False,
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        _draw_panel(axis, *panel)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _list_panels(run):
    panels = []
    for measure in run['measures']:
        baseline = next(iter(measure['seconds']))
        times, peaks = {}, {}
        for name, seconds in measure['seconds'].items():
            if name == baseline:
                continue
            label = run['labels'][name]
            times[label] = median_interval(
                paired_ratios(seconds, measure['seconds'][baseline])
            )
            ratio = (
                measure['peak_bytes'][name] / measure['peak_bytes'][baseline]
            )
            peaks[label] = (ratio, ratio, ratio)
        if times:
            title = f'{title_measure(measure)}, {describe_run(run)}'
            unit = f'relative to {run["labels"][baseline]} (×)'
            panels.append((title, f'time {unit}', times))
            panels.append((title, f'peak memory {unit}', peaks))
    return panels


def _draw_panel(axis, title, xlabel, bars):
    names = list(bars)[::-1]
    values = [bars[name] for name in names]
    axis.barh(
        names,
        [median - 1 for median, _, _ in values],
        left=1,
        color='0.7',
        edgecolor='0.2',
        xerr=[
            [median - low for median, low, _ in values],
            [high - median for median, _, high in values],
        ],
        capsize=3,
    )
    axis.axvline(1, color='0.2', linewidth=1)
    for position, (median, low, high) in enumerate(values):
        axis.annotate(
            f'{median:.3f}',
            (max(high, 1) if median >= 1 else min(low, 1), position),
            xytext=(4 if median >= 1 else -4, 0),
            textcoords='offset points',
            ha='left' if median >= 1 else 'right',
            va='center',
        )
    ends = [1, *(end for _, *interval in values for end in interval)]
    room = max(max(ends) - min(ends), 0.02)
    axis.set_xlim(min(ends) - 0.15 * room, max(ends) + 0.15 * room)
    axis.set_title(title, fontsize=10, loc='left')
    axis.set_xlabel(xlabel)
