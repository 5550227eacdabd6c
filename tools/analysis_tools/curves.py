"""Draws loss, metrics and learning rate of runs against the iteration.

Reads the scalars that MMEngine's LocalVisBackend leaves in a work dir, and
those of BA2MLoggerHook. Of a work dir, all runs are read, so a resumed
training is one curve.
"""

import argparse
import json
import math
from fnmatch import filter as match
from itertools import cycle, islice
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

#: what is drawn by default, with its label and that of its axis
METRICS = {
    'coco/bbox_mAP': ('AP, boxes', 'average precision [0 to 1]'),
    'coco/bbox_mAP_50': ('AP50, boxes', 'average precision [0 to 1]'),
    'coco/segm_mAP': ('AP, masks', 'average precision [0 to 1]'),
    'pascal_voc/AP50': ('AP50', 'average precision [0 to 1]'),
    'accuracy/top1': ('top 1', 'accuracy [%]'),
}
NOT_DRAWN = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory'}
#: BA2MLoggerHook's file beside scalars.json
STATISTICS = 'ba2m.json'
#: and the names in it: it counts iterations where LoggerHook counts epochs
BY_ITERATION = 'ba2m_'
# runs differ in grey, too
STYLES = ['-', '--', '-.', ':', (0, (7, 2, 1, 2, 1, 2))]
COLOURS = ['#0b3c6f', '#d1495b', '#2e8b57', '#b8860b', '#7b52ab']
MARKERS = 'o^svDx+*'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', help='work dirs of the runs')
    parser.add_argument(
        '--out',
        nargs='+',
        required=True,
        metavar='FILE',
        help='files to write, e.g. curves.png curves.pdf',
    )
    parser.add_argument(
        '--labels',
        nargs='+',
        help='a name for each run, by default that of its folder',
    )
    parser.add_argument(
        '--metrics',
        nargs='+',
        metavar='NAME',
        help='scalars to draw, e.g. coco/bbox_mAP_75, loss_cls or '
        '"ba2m_weight_std/*"; by default AP and AP50 or accuracy, as far as '
        'they are there',
    )
    parser.add_argument(
        '--smooth',
        type=float,
        default=0,
        metavar='WEIGHT',
        help='smooth the loss by an exponential moving average, in which a '
        "value weighs this much less than the next, as TensorBoard's slider "
        'does: in [0, 1), 0 by default',
    )
    args = parser.parse_args()
    if args.labels and len(args.labels) != len(args.work_dirs):
        parser.error(
            f'{len(args.work_dirs)} work dirs, {len(args.labels)} labels'
        )
    if not 0 <= args.smooth < 1:
        parser.error(f'--smooth must be in [0, 1), got {args.smooth}')
    return args


def read_scalars(work_dir):
    """Reads a work dir.

    MMEngine logs one learning rate of an optimizer: ``lr`` of its first
    parameter group, and where it has several, ``base_lr`` of none.

    Args:
        work_dir (str): A work dir of MMEngine's Runner.

    Returns:
        dict[str, dict[int, float]]: For each scalar its value by iteration,
        in rising order.

    Raises:
        FileNotFoundError: If the folder has no scalars.
        ValueError: If they are damaged, or of no training.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'{work_dir} has no */vis_data/scalars.json: is it the work dir '
            'of a training?'
        )
    series = {}
    last = 0
    for file in files:
        started = False
        lines = _read_lines(file)
        if (statistics := file.with_name(STATISTICS)).exists():
            lines += _read_lines(statistics)
        for line in lines:
            trains = 'loss' in line or 'iter' in line
            if trains:
                last = line.get('iter', line.get('step'))
            if trains and not started:
                # a resumed run replaces what came after its checkpoint
                started = True
                for values in series.values():
                    for key in [key for key in values if key >= last]:
                        del values[key]
            for name, value in line.items():
                if name in NOT_DRAWN or not isinstance(value, int | float):
                    continue
                # of a validation, MMEngine counts epochs: take the iteration
                # that was logged before
                counts = name.startswith(BY_ITERATION)
                iteration = line['step'] if counts else last
                series.setdefault(name, {})[iteration] = value
    if not series.get('loss'):
        raise ValueError(f'{work_dir} has no loss in its scalars')
    return {
        name: dict(sorted(values.items())) for name, values in series.items()
    }


def _read_lines(file):
    texts = file.read_text(encoding='utf-8').splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts):
                break  # killed while it wrote
            raise ValueError(f'{file}, line {number}: {error}') from error
        lines.append(
            {  # where log_with_hierarchy is on
                name.removeprefix('train/').removeprefix('val/'): value
                for name, value in line.items()
            }
        )
    return lines


def smooth(values, weight):
    """Takes an exponential moving average, unbiased at its start.

    ``y_t = Σ_{s≤t} w^{t−s} x_s / Σ_{s≤t} w^{t−s}``. NaN is left out.

    Args:
        values (Sequence[float]): In their order.
        weight (float): w, in [0, 1).

    Returns:
        list[float]: As many values.
    """
    total = norm = 0.0
    averages = []
    for value in values:
        if math.isfinite(value):
            total = weight * total + value
            norm = weight * norm + 1
        averages.append(total / norm if norm else math.nan)
    return averages


def choose_metrics(runs, patterns=None):
    """Finds what to draw, and in which panel.

    Args:
        runs (Sequence[dict]): From :func:`read_scalars`.
        patterns (Sequence[str] | None): Scalars to draw, with ``*`` and ``?``
            as in the shell. Defaults to those of ``METRICS`` that a run has.

    Returns:
        dict[str, dict[str, str]]: For each axis label, the scalars and their
        labels.

    Raises:
        ValueError: If no run has one of the scalars.
    """
    known = list(dict.fromkeys(name for run in runs for name in run))
    names = [name for name in METRICS if name in known]
    if patterns:
        names = []
    for pattern in patterns or ():
        found = match(known, pattern)
        if not found:
            raise ValueError(f'no run has {pattern}, but {", ".join(known)}')
        names += found
    panels = {}
    for name in names:
        quantity, _, part = name.partition('/')
        if not name.startswith(BY_ITERATION):
            quantity, part = name, name
        label, axis = METRICS.get(name, (part, quantity))
        panels.setdefault(axis, {})[name] = label
    return panels


def choose_rates(runs):
    """Finds the learning rates: of each optimizer, and its base if it differs.

    Args:
        runs (Sequence[dict]): From :func:`read_scalars`.

    Returns:
        dict[str, str]: The scalars and their labels.
    """
    names = {}
    for run in runs:
        for name in run:
            optimizer, _, last = name.rpartition('.')
            plain = f'{optimizer}.lr' if optimizer else 'lr'
            if last == 'lr' or (
                last == 'base_lr' and run[name] != run.get(plain)
            ):
                names[name] = name
    return names


def draw(runs, labels, patterns=None, weight=0):
    """Draws loss, metrics and learning rate side by side.

    Args:
        runs (Sequence[dict]): From :func:`read_scalars`.
        labels (Sequence[str]): A name for each run.
        patterns (Sequence[str] | None): As in :func:`choose_metrics`.
        weight (float): Of :func:`smooth` for the loss. Defaults to 0.

    Returns:
        Figure: Of matplotlib, to be saved.
    """
    panels = {'training loss': {'loss': 'loss'}}
    panels |= choose_metrics(runs, patterns)
    rates = choose_rates(runs)
    if rates:
        panels['learning rate'] = rates
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(4.2 * columns, 3.4 * rows + 0.3), layout='constrained'
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    last = max(max(values) for run in runs for values in run.values())
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (title, shown) in zip(axes.flat, panels.items(), strict=False):
        _draw_panel(axis, runs, shown, title, weight)
        axis.set_xlim(0, 1.02 * last)
    looks = zip(cycle(STYLES), cycle(COLOURS))
    handles = [
        Line2D([], [], linestyle=style, color=colour, label=label)
        for label, (style, colour) in zip(labels, looks, strict=False)
    ]
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=min(len(handles), 2 * columns),
        handlelength=4,
    )
    return figure


def _draw_panel(axis, runs, shown, title, weight):
    alone = len(runs) == 1  # then colours are free to tell scalars apart
    colours = list(islice(cycle(COLOURS if alone else ['0.3']), len(shown)))
    looks = zip(cycle(STYLES), cycle(COLOURS))
    for run, (style, colour) in zip(runs, looks, strict=False):
        for marker, own, name in zip(
            cycle(MARKERS), colours, shown, strict=False
        ):
            if name not in run:
                continue
            iterations, values = list(run[name]), list(run[name].values())
            look = dict(linestyle=style, color=own if alone else colour)
            if name == 'loss' and weight:
                axis.plot(iterations, values, **look, alpha=0.25, lw=0.8)
                values = smooth(values, weight)
            # a loss is logged too often for markers, but to tell curves apart
            if len(shown) > 1 or name in METRICS:
                look.update(
                    marker=marker,
                    markersize=4,
                    markevery=max(1, len(values) // 20),
                )
            axis.plot(iterations, values, **look)
    if len(shown) > 1:
        axis.legend(
            handles=[
                Line2D([], [], color=colour, marker=marker, label=label)
                for marker, colour, label in zip(
                    cycle(MARKERS), colours, shown.values(), strict=False
                )
            ],
            fontsize='small',
            framealpha=0.6,
        )
    elif title not in ('training loss', 'learning rate'):
        ((name, label),) = shown.items()
        title = f'{label}: {title}' if name in METRICS else name
    if title == 'training loss' and weight:
        title += f', smoothed by {weight:g}'
    axis.set(xlabel='iteration', ylabel=title)
    if '[0 to 1]' in title:
        axis.set_ylim(0)
    if title == 'learning rate':
        axis.set_ylim(0)
        axis.ticklabel_format(axis='y', scilimits=(-2, 2))
    axis.grid(alpha=0.3)


def main():
    args = parse_args()
    runs = [read_scalars(work_dir) for work_dir in args.work_dirs]
    labels = args.labels or [Path(d).resolve().name for d in args.work_dirs]
    if len(set(labels)) < len(labels):
        labels = args.work_dirs
    figure = draw(runs, labels, args.metrics, args.smooth)
    for file in args.out:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    print(f'curves: {", ".join(args.out)}')


if __name__ == '__main__':
    main()
