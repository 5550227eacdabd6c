"""Draws loss, metrics and learning rate of runs against the iteration.

Reads the scalars that MMEngine's LocalVisBackend leaves in a work dir, and
those of BA2MLoggerHook. Of a work dir all runs are read, so a resumed training
is one curve. To smooth or to zoom, see the same scalars in TensorBoard.
"""

import argparse
import json
from fnmatch import filter as match
from math import inf
from pathlib import Path

from matplotlib.figure import Figure

#: what is drawn by default, with its label
METRICS = {
    'coco/bbox_mAP': 'AP of boxes [0 to 1]',
    'coco/bbox_mAP_50': 'AP50 of boxes [0 to 1]',
    'coco/segm_mAP': 'AP of masks [0 to 1]',
    'pascal_voc/AP50': 'AP50 [0 to 1]',
    'accuracy/top1': 'top-1 accuracy [%]',
}
# runs differ in grey, too
STYLES = ['-', '--', '-.', ':', (0, (7, 2, 1, 2, 1, 2))]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('work_dirs', nargs='+', help='work dirs of the runs')
    text = 'files to write, e.g. curves.png curves.pdf'
    add('--out', nargs='+', required=True, metavar='FILE', help=text)
    add('--labels', nargs='+', help='a name for each run, or else its path')
    text = """scalars to draw, e.g. coco/bbox_mAP_75, loss_cls or
        "ba2m_weight_std/*"; by default AP and AP50 or accuracy, as far as
        they are there"""
    add('--metrics', nargs='+', metavar='NAME', help=text)
    args = parser.parse_args()
    args.labels = args.labels or args.work_dirs
    if len(args.labels) != len(args.work_dirs):
        parser.error(
            f'{len(args.work_dirs)} work dirs, {len(args.labels)} labels'
        )
    return args


def read_lines(file):
    """Reads what is whole in a file of JSON lines, if it is there."""
    texts = file.read_text('utf-8').splitlines() if file.exists() else []
    # of a run that was killed while it wrote, the last line is cut off
    return [json.loads(text) for text in texts if text.endswith('}')]


def read_scalars(work_dir: str) -> dict[str, dict[int, float]]:
    """Reads for each scalar of a work dir its value by rising iteration.

    Raises:
        ValueError: If the folder has no loss.
    """
    series, last = {}, 0
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        lines = read_lines(file)
        first = min((x['step'] for x in lines if 'loss' in x), default=inf)
        for values in series.values():
            # a resumed run replaces what came after its checkpoint
            for step in [key for key in values if key >= first]:
                del values[step]
        for line in lines:
            if 'loss' in line:
                last = line['step']
            line['step'] = last  # of a validation, MMEngine counts epochs
        # what BA2MLoggerHook writes counts iterations
        for line in lines + read_lines(file.with_name('ba2m.json')):
            for name, value in line.items():
                series.setdefault(name, {})[line['step']] = value
    if 'loss' not in series:
        raise ValueError(
            f'{work_dir} has no loss in */vis_data/scalars.json: is it the '
            'work dir of a training?'
        )
    return {name: dict(sorted(series[name].items())) for name in series}


def draw(
    runs: list[dict], labels: list[str], patterns: list[str] | None = None
) -> Figure:
    """Draws loss, metrics and learning rate side by side.

    Args:
        runs: From :func:`read_scalars`.
        labels: A name for each run.
        patterns: Metrics to draw, with ``*`` and ``?`` as in the shell.
            Defaults to those of ``METRICS``.

    Raises:
        ValueError: If no run has such a metric.
    """
    known = list(dict.fromkeys(name for run in runs for name in run))
    names = [name for name in METRICS if name in known]
    if patterns:
        names = [name for one in patterns for name in match(known, one)]
        if not names:
            raise ValueError(f'no run has {patterns}, but {known}')
    names = ['loss', *names, *(n for n in known if n.split('.')[-1] == 'lr')]
    columns = 2 if len(names) == 4 else min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure((4.2 * columns, 3.4 * rows + 0.3), layout='constrained')
    axis = None
    for place, name in enumerate(names, 1):
        axis = figure.add_subplot(rows, columns, place, sharex=axis)
        for number, (run, label) in enumerate(zip(runs, labels, strict=True)):
            axis.plot(
                list(run.get(name, ())),
                list(run.get(name, {}).values()),
                color=f'C{number}',
                linestyle=STYLES[number % len(STYLES)],
                marker='.' if name in METRICS else None,
                label=label,
            )
        axis.set_xlabel('iteration')
        axis.set_ylabel(METRICS.get(name, name), fontsize='small')
        axis.grid(alpha=0.3)
    handles, _ = axis.get_legend_handles_labels()
    figure.legend(handles=handles, loc='outside lower center', handlelength=4)
    return figure


def main():
    args = parse_args()
    runs = [read_scalars(work_dir) for work_dir in args.work_dirs]
    figure = draw(runs, args.labels, args.metrics)
    for file in args.out:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=150)
    print(f'curves: {", ".join(args.out)}')


if __name__ == '__main__':
    main()
