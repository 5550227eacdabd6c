"""Compares two runs: by class, and by the images on which they differ most.

Of detectors AP, of classifiers accuracy. A run is a checkpoint, or the
predictions that tools/test.py --out wrote. Into the folder go per_class.png
and .pdf, per_class.md, compare.json, images.png and .pdf, and the predictions
of checkpoints, to be given instead of them the next time.
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmba2m.utils.checkpoint_io import use_safe_loading
from mmba2m.utils.cli import load_config
from mmba2m.utils.comparison.pairing import (
    check_same_data,
    list_images,
    load_predictions,
    pair,
    predict,
)
from mmba2m.utils.comparison.report import (
    compare,
    draw_classes,
    draw_images,
    format_table,
    write_report,
)
from mmba2m.visualization import build_dataset

PICKLES = ('.pkl', '.pickle')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, of both runs')
    parser.add_argument('first', help='checkpoint, or predictions in a .pkl')
    parser.add_argument('second', help='the other one')
    parser.add_argument(
        '--second-config', help='config file of the second run, if another'
    )
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('work_dirs/compare'),
        help='folder to write to, work_dirs/compare by default',
    )
    parser.add_argument(
        '--labels',
        nargs=2,
        metavar=('FIRST', 'SECOND'),
        help='names of the runs, by default of their folders and files',
    )
    parser.add_argument(
        '--num', type=int, default=6, help='images to draw, 6 by default'
    )
    parser.add_argument(
        '--max-classes',
        type=int,
        default=40,
        help='classes in the picture at most, 40 by default; the table has '
        'all',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='detections that count in an image and are drawn, 0.3 by '
        'default; AP has them all',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override both configs',
    )
    return parser.parse_args()


def load_run(args, config, number):
    """Loads the config of a run and its test set.

    Args:
        args (argparse.Namespace): From :func:`parse_args`.
        config (str): The config file.
        number (str): 'first' or 'second'.

    Returns:
        tuple[Config, tuple[BaseDataset, list[dict]]]: The config, the data
        set and its images.
    """
    cfg = load_config(
        argparse.Namespace(
            config=config,
            cfg_options=args.cfg_options,
            work_dir=str(args.out_dir / number),
            launcher='none',
            local_rank=0,
        )
    )
    dataset = build_dataset(cfg)
    return cfg, (dataset, list_images(dataset))


def build_task(cfg, dataset, images, score_thr):
    """Chooses what is compared."""
    if cfg.default_scope == 'mmdet':
        from mmba2m.utils.comparison.detection import DetectionTask

        evaluators = cfg.test_evaluator
        if not isinstance(evaluators, list):
            evaluators = [evaluators]
        return DetectionTask(dataset, images, evaluators, score_thr)
    from mmba2m.utils.comparison.classification import ClassificationTask

    return ClassificationTask(dataset, images)


def name_runs(paths):
    """Names runs by as little of their paths as tells them apart."""
    paths = [Path(path) for path in paths]
    stems = [path.stem for path in paths]
    if stems[0] != stems[1]:
        return stems
    return [f'{path.resolve().parent.name}/{path.stem}' for path in paths]


def main():
    args = parse_args()
    cfg, data = load_run(args, args.config, 'first')
    cfgs = [cfg, cfg]
    if args.second_config:
        cfgs[1], other = load_run(args, args.second_config, 'second')
        if cfgs[0].default_scope != cfgs[1].default_scope:
            raise ValueError('one config is of a detector, the other is not')
        check_same_data(data, other)
    task = build_task(cfg, *data, args.score_thr)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    use_safe_loading()
    runs = []
    for number, path, one in zip(
        ('first', 'second'), (args.first, args.second), cfgs, strict=True
    ):
        file = path
        if not path.endswith(PICKLES):
            file = args.out_dir / f'{number}.pkl'
            predict(one.copy(), path, file)
        samples = load_predictions(file)
        task.check(samples, path)
        runs.append(pair(task.images, samples, path))

    labels = args.labels or name_runs([args.first, args.second])
    report = compare(task, runs, labels)
    figures = dict(per_class=draw_classes(report, args.max_classes))
    drawn = draw_images(task, runs, report, args.num)
    if drawn is not None:
        figures['images'] = drawn
    write_report(report, figures, args.out_dir)
    print(f'\n{format_table(report)}\ncompared: {args.out_dir}')


if __name__ == '__main__':
    main()
