"""Tables and charts of what was measured."""

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from .timing import median_interval, paired_ratios

KINDS = dict(train='training step', inference='inference')


def format_backbones(runs):
    """Writes Markdown tables.

    Args:
        runs (Sequence[dict]): As benchmark_backbone.py saves them.

    Returns:
        str: For each run a line that says how it was measured, and a table
        for each measure.
    """
    return '\n\n'.join(_format_run(run) for run in runs) + '\n'


def describe_network(run):
    """Says which backbone a run measured."""
    options = dict(run['backbone'])
    kind, depth = options.pop('type'), options.pop('depth', None)
    parts = [f'{kind}-{depth}' if depth else kind]
    return ', '.join(parts + [f'{k}={v}' for k, v in options.items()])


def describe_options(run):
    """Says how a run computed."""
    parts = [run['precision']]
    if run['channels_last']:
        parts.append('channels_last')
    if run['compile']:
        parts.append(f'torch.compile of the {run["compile"]}')
    if run['optimizer']:
        parts.append('with SGD')
    return ', '.join(parts)


def describe_environment(run):
    """Says what a run was measured with."""
    return ', '.join(f'{k} {v}' for k, v in run['environment'].items())


def title_measure(measure):
    """Names a measure with its batch and image size."""
    batch, _, height, width = measure['shape']
    return f'{KINDS[measure["kind"]]}, {batch} × {height}×{width}'


def _format_run(run):
    tables = [_format_measure(run, measure) for measure in run['measures']]
    head = f'{describe_network(run)}, {describe_options(run)}'
    return '\n\n'.join([f'{head} ({describe_environment(run)}).', *tables])


def _format_measure(run, measure):
    seconds, peaks = measure['seconds'], measure['peak_bytes']
    baseline = next(iter(seconds))
    versus = f'× {run["labels"][baseline]}'
    unit, scale = _choose_unit(seconds[baseline])
    rounds = len(seconds[baseline])
    lines = [
        [
            f'{title_measure(measure)} ({rounds} rounds)',
            'parameters',
            f'time [{unit}]',
            versus,
            'peak memory [MiB]',
            versus,
        ],
        [':--', *['--:'] * 5],
    ]
    for name in seconds:
        ratios = paired_ratios(seconds[name], seconds[baseline])
        ratio = '{:.3f} ({:.3f}–{:.3f})'.format(*median_interval(ratios))
        lines.append(
            [
                run['labels'][name],
                f'{run["parameters"][name]:,}',
                f'{median_interval(seconds[name])[0] * scale:.4g}',
                '1' if name == baseline else ratio,
                f'{peaks[name] / 2**20:.0f}',
                '1'
                if name == baseline
                else f'{peaks[name] / peaks[baseline]:.3f}',
            ]
        )
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _choose_unit(seconds):
    return ('s', 1) if median_interval(seconds)[0] >= 1 else ('ms', 1000)


def draw_backbones(runs, out):
    """Draws the ratios to the first network, with their intervals.

    Args:
        runs (Sequence[dict]): As in :func:`format_backbones`.
        out (str | Path): File to write, PNG or PDF.
    """
    rows = [
        (run, measure)
        for run in runs
        for measure in run['measures']
        if len(measure['seconds']) > 1
    ]
    if not rows:
        return
    heights = [len(m['seconds']) * 0.28 + 0.7 for _, m in rows]
    figure, axes = plt.subplots(
        len(rows),
        2,
        figsize=(10, sum(heights)),
        height_ratios=heights,
        sharey='row',
        layout='constrained',
        squeeze=False,
    )
    for (left, right), (run, measure) in zip(axes, rows, strict=True):
        seconds, peaks = measure['seconds'], measure['peak_bytes']
        baseline, *names = seconds
        labels = [run['labels'][name] for name in names]
        times = [
            median_interval(paired_ratios(seconds[name], seconds[baseline]))
            for name in names
        ]
        memory = [[peaks[name] / peaks[baseline]] * 3 for name in names]
        versus = f'relative to {run["labels"][baseline]} (×)'
        _draw_bars(left, labels, times, f'time {versus}')
        _draw_bars(right, labels, memory, f'peak memory {versus}')
        left.set_title(title_measure(measure), fontsize=10, loc='left')
        right.set_title(
            f'{describe_network(run)}, {describe_options(run)}',
            fontsize=8,
            loc='right',
        )
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _draw_bars(axis, labels, values, xlabel):
    """Draws (median, low, high) as bars that begin at 1."""
    axis.barh(
        labels,
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
    axis.set_xlim(min(ends) - 0.2 * room, max(ends) + 0.2 * room)
    axis.set_ylim(len(labels) - 0.4, -0.6)  # the first on top
    axis.set_xlabel(xlabel)
