"""Draws the loss and the metrics of runs against the iteration.

Reads the scalars that MMEngine's LocalVisBackend leaves in a work dir. Of a
work dir, all runs are read, so a resumed training is one curve.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', help='work dirs of the runs')
    parser.add_argument('--out', required=True, help='PNG or PDF to write')
    parser.add_argument(
        '--metrics',
        nargs='+',
        help='metrics to draw, e.g. coco/bbox_mAP_50; by default AP and AP50 '
        'or accuracy, as far as they are there',
    )
    return parser.parse_args()


DEFAULT_METRICS = (
    'coco/bbox_mAP',
    'coco/bbox_mAP_50',
    'coco/segm_mAP',
    'pascal_voc/AP50',
    'accuracy/top1',
)


def read_scalars(work_dir):
    """Reads a work dir.

    Args:
        work_dir (str): A work dir of MMEngine's Runner.

    Returns:
        tuple[dict, dict]: Loss by iteration, and for each metric its value
        by iteration.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'{work_dir} has no */vis_data/scalars.json: is it the work dir '
            'of a training?'
        )
    losses, metrics = {}, {}
    last_iter = 0
    for file in files:
        for line in file.read_text().splitlines():
            scalars = json.loads(line)
            if 'loss' in scalars:
                last_iter = scalars.get('iter', scalars['step'])
                losses[last_iter] = scalars['loss']
                continue
            # of a validation, MMEngine counts epochs: take the iteration
            # that was logged before
            for name, value in scalars.items():
                if '/' in name:
                    metrics.setdefault(name, {})[last_iter] = value
    return losses, metrics


def draw(runs, out, names=None):
    """Draws losses on the left and metrics on the right.

    Args:
        runs (dict): For each label, what :func:`read_scalars` returns.
        out (str): File to write.
        names (Sequence[str] | None): Metrics to draw. Defaults to those of
            ``DEFAULT_METRICS`` that a run has.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 4), layout='constrained'
    )
    styles = ['-', '--', ':', '-.']
    for index, (label, (losses, metrics)) in enumerate(runs.items()):
        colour = f'C{index}'
        left.plot(list(losses), list(losses.values()), colour, label=label)
        shown = [n for n in names or DEFAULT_METRICS if n in metrics]
        for style, name in zip(styles, shown, strict=False):
            right.plot(
                list(metrics[name]),
                list(metrics[name].values()),
                style,
                color=colour,
                marker='o',
                markersize=3,
                label=name if len(runs) == 1 else f'{label}: {name}',
            )
    left.set(xlabel='iteration', ylabel='training loss')
    right.set(xlabel='iteration', ylabel='metric on the validation set')
    right.set_ylim(0, 1 if right.get_ylim()[1] <= 1.05 else None)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def main():
    args = parse_args()
    runs = {
        Path(work_dir).name: read_scalars(work_dir)
        for work_dir in args.work_dirs
    }
    draw(runs, args.out, args.metrics)
    print(f'curves: {args.out}')


if __name__ == '__main__':
    main()
