"""Measures what attention costs: backbones side by side, in turns.

A training step, inference and peak memory of each network, and their ratios
to the first one, which are paired within each round. Writes a Markdown table,
a chart and a JSON file, from which both are made again with --report. With
--scaling: how the module BA²M alone grows with the size of the image.
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.checkpoints.benchmark.environment import describe_environment
from mmba2m.checkpoints.benchmark.networks import (
    INFERENCE_ONLY,
    SETTINGS,
    build_network,
    label_network,
)
from mmba2m.checkpoints.benchmark.report import draw_backbones, format_backbones
from mmba2m.checkpoints.benchmark.scaling import (
    draw_scaling,
    format_scaling,
    list_sizes,
)
from mmba2m.checkpoints.benchmark.steps import PRECISIONS, Subject
from mmba2m.checkpoints.benchmark.timing import time_in_turn
from mmba2m.inspect.complexity import count_parameters

MIN_SAMPLE_SECONDS = 0.05


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    what = parser.add_argument_group('what is measured')
    what.add_argument(
        '--setting',
        choices=list(SETTINGS),
        default='imagenet',
        help='network, image size and batch: ResNet-50 at 224×224 or '
        '800×1333, or a narrow ResNet-18 at 32×32',
    )
    what.add_argument(
        '--networks',
        nargs='+',
        default=[
            'plain',
            'ba2m',
            'ba2m_identity',
            'stripped',
            'se',
            'cbam',
            'gc',
        ],
        metavar='NAME',
        help='those, any attention module, or config files; ratios are to '
        'the first',
    )
    what.add_argument(
        '--measures',
        nargs='+',
        choices=['train', 'inference'],
        default=['train', 'inference'],
        help='what is measured of each network',
    )
    what.add_argument(
        '--shape',
        nargs=4,
        type=int,
        metavar=('N', 'C', 'H', 'W'),
        help='images of a training step, instead of the setting',
    )
    what.add_argument(
        '--inference-batches',
        nargs='+',
        type=int,
        metavar='N',
        help='images at once in inference, instead of the setting',
    )
    what.add_argument(
        '--backbone-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='arguments of every backbone, e.g. depth=101, or what '
        'detectors are trained with: norm_eval=True frozen_stages=1',
    )
    what.add_argument(
        '--optimizer',
        action='store_true',
        help='end training steps with one of SGD',
    )

    what.add_argument(
        '--scaling',
        nargs='*',
        type=int,
        choices=[1, 2, 3, 4],
        metavar='STAGE',
        help='measure the module BA²M alone instead, on the maps that these '
        'stages of ResNet-50 give of two images of growing size',
    )
    what.add_argument(
        '--sizes',
        nargs=2,
        type=int,
        default=[224, 1344],
        metavar=('FIRST', 'LAST'),
        help='image sizes of --scaling, in steps of √2',
    )

    how = parser.add_argument_group('how it is run')
    how.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where it is computed',
    )
    how.add_argument('--precision', choices=PRECISIONS, default='fp32')
    how.add_argument('--channels-last', action='store_true')
    how.add_argument(
        '--compile',
        choices=['module', 'network'],
        help='torch.compile of the attention modules alone, or of all',
    )
    how.add_argument('--threads', type=int, help='threads on the CPU')

    until = parser.add_argument_group('how long')
    until.add_argument(
        '--tolerance',
        type=float,
        default=0.01,
        help='stop when the 95 %% intervals of all ratios are this close '
        'around the median, as a part of it',
    )
    until.add_argument(
        '--max-seconds',
        type=float,
        default=120,
        help='stop each measure after this time',
    )
    until.add_argument(
        '--min-rounds',
        type=int,
        default=6,
        help='rounds before the tolerance counts',
    )

    out = parser.add_argument_group('what is written')
    out.add_argument(
        '--out-dir',
        default='work_dirs/benchmark_backbone',
        help='folder for benchmark.json, .md and .png, or scaling.*',
    )
    out.add_argument(
        '--report',
        nargs='+',
        metavar='JSON',
        help='measure nothing: table and chart of files written before',
    )
    return parser.parse_args()


def measure(args):
    """Measures backbones.

    Args:
        args (argparse.Namespace): From :func:`parse_args`.

    Yields:
        dict: For JSON: what was measured how, and every number; once after
        each measure, with all before.
    """
    device = torch.device(args.device)
    setting = SETTINGS[args.setting]
    shape = args.shape or [
        setting['train_batch'][device.type],
        3,
        *setting['size'],
    ]
    setting = dict(setting, size=tuple(shape[2:]))
    subjects = {
        name: make_subject(
            args, build_network(name, setting, args.backbone_options)
        )
        for name in args.networks
    }
    run = dict(
        describe_options(args),
        setting=args.setting,
        backbone=dict(setting['backbone'], **args.backbone_options),
        labels={name: label_network(name) for name in subjects},
        parameters={
            name: count_parameters(subject.network)
            for name, subject in subjects.items()
        },
        measures=[],
    )
    kinds = [('train', shape[0])] if 'train' in args.measures else []
    if 'inference' in args.measures:
        batches = args.inference_batches or setting['inference_batches']
        kinds += [('inference', batch) for batch in batches]
    for kind, batch in kinds:
        shape = [batch, *shape[1:]]
        images = next(iter(subjects.values())).images(shape)
        print(f'{kind}, {"×".join(map(str, shape))}')
        measured = measure_kind(
            args,
            kind,
            {
                name: (subject, images)
                for name, subject in subjects.items()
                if kind != 'train' or name not in INFERENCE_ONLY
            },
        )
        run['measures'].append(dict(kind=kind, shape=shape, **measured))
        yield run


def measure_scaling(args):
    """Measures BA²M alone.

    Args:
        args (argparse.Namespace): From :func:`parse_args`.

    Yields:
        dict: As of :func:`measure`.
    """
    sizes = list_sizes(*args.sizes)
    run = dict(
        describe_options(args), module='BA²M', sizes=sizes, batch=2, curves=[]
    )
    for stage in args.scaling or [1]:
        stride, channels = 2 ** (stage + 1), 2 ** (stage + 7)
        subject = make_subject(args, BA2M(channels))
        maps = {}
        for size in sizes:
            side = math.ceil(size / stride)
            shape = (run['batch'], channels, side, side)
            maps[size] = subject.images(shape).requires_grad_()
        for kind in args.measures:
            print(f'{kind}, stage {stage}')
            measured = measure_kind(
                args, kind, {size: (subject, maps[size]) for size in sizes}
            )
            run['curves'].append(dict(kind=kind, stage=stage, **measured))
            yield run


def make_subject(args, network):
    """Prepares a network as the command line says."""
    return Subject(
        network,
        torch.device(args.device),
        args.precision,
        args.channels_last,
        args.compile,
        args.optimizer,
    )


def describe_options(args):
    """Lists what all measures of a run share."""
    return dict(
        precision=args.precision,
        channels_last=args.channels_last,
        compile=args.compile,
        optimizer=args.optimizer,
        environment=describe_environment(torch.device(args.device)),
    )


def measure_kind(args, kind, subjects):
    """Measures time and memory of one kind of step.

    Args:
        args (argparse.Namespace): From :func:`parse_args`.
        kind (str): 'train' or 'inference'.
        subjects (dict): For each name what is run, and its input.

    Returns:
        dict: By name: seconds of each round, and bytes.
    """
    steps = {}
    for name, (subject, images) in subjects.items():
        prepare = subject.train_step
        if kind == 'inference':
            prepare = subject.inference_step
        steps[name] = prepare(images)
    peaks, counts = {}, {}
    for name, (subject, images) in subjects.items():
        steps[name]()  # compiles, allocates
        start = time.perf_counter()
        peaks[name] = subject.peak_memory(steps[name], images)
        # short steps several times, that the clock sees more than itself
        seconds = time.perf_counter() - start
        counts[name] = math.ceil(MIN_SAMPLE_SECONDS / seconds)
    seconds = time_in_turn(
        steps,
        torch.device(args.device),
        counts,
        args.tolerance,
        args.min_rounds,
        args.max_seconds,
    )
    return dict(seconds=seconds, peak_bytes=peaks)


def main():
    args = parse_args()
    # not of interest where nothing is trained
    warnings.filterwarnings('ignore', message='BA2M: a batch norm')
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    if args.threads:
        torch.set_num_threads(args.threads)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)

    if args.report:
        runs = [json.loads(Path(path).read_text()) for path in args.report]
        write_report(runs, out_dir)
        return
    scaling = args.scaling is not None
    name = 'scaling' if scaling else 'benchmark'
    for run in (measure_scaling if scaling else measure)(args):
        text = json.dumps(run, indent=1)
        (out_dir / f'{name}.json').write_text(text, encoding='utf-8')
    # as --report reads it: the keys of JSON are text
    write_report([json.loads(text)], out_dir)


def write_report(runs, out_dir):
    """Writes tables and charts, and prints the tables.

    Args:
        runs (list[dict]): What was measured, of backbones or of scaling.
        out_dir (Path): Folder.
    """
    for name, key, format_runs, draw_runs in (
        ('benchmark', 'measures', format_backbones, draw_backbones),
        ('scaling', 'curves', format_scaling, draw_scaling),
    ):
        chosen = [run for run in runs if key in run]
        if not chosen:
            continue
        table = format_runs(chosen)
        (out_dir / f'{name}.md').write_text(table, encoding='utf-8')
        draw_runs(chosen, out_dir / f'{name}.png')
        print(f'\n{table}\nwritten to {out_dir}/{name}.md and .png')


if __name__ == '__main__':
    main()
