"""Measures what attention costs: backbones side by side, in turns.

A training step, inference and peak memory of each network, and their ratios
to the first one, which are paired within each round. Writes a Markdown table,
a chart and a JSON file, from which both are made again with --report.
"""

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmba2m.utils.benchmark.environment import describe_environment
from mmba2m.utils.benchmark.networks import (
    INFERENCE_ONLY,
    SETTINGS,
    build_network,
    label_network,
)
from mmba2m.utils.benchmark.report import draw_runs, format_runs
from mmba2m.utils.benchmark.steps import PRECISIONS, Subject
from mmba2m.utils.benchmark.timing import time_in_turn
from mmba2m.utils.complexity import count_parameters

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
        help='folder for benchmark.json, benchmark.md and benchmark.png',
    )
    out.add_argument(
        '--report',
        nargs='+',
        metavar='JSON',
        help='measure nothing: table and chart of files written before',
    )
    return parser.parse_args()


def measure(args):
    """Measures as the command line says.

    Args:
        args (argparse.Namespace): From :func:`parse_args`.

    Yields:
        dict: For JSON: what was measured how, and every number; once after
        each measure, with all before.
    """
    device = torch.device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    setting = SETTINGS[args.setting]
    shape = args.shape or [
        setting['train_batch'][device.type],
        3,
        *setting['size'],
    ]
    setting = dict(setting, size=tuple(shape[2:]))

    subjects = {}
    for name in args.networks:
        torch.manual_seed(0)
        subjects[name] = Subject(
            build_network(name, setting, args.backbone_options),
            device,
            args.precision,
            args.channels_last,
            args.compile,
            args.optimizer,
        )
    run = dict(
        setting=args.setting,
        backbone=dict(setting['backbone'], **args.backbone_options),
        precision=args.precision,
        channels_last=args.channels_last,
        compile=args.compile,
        optimizer=args.optimizer,
        device=device.type,
        environment=describe_environment(device),
        labels={name: label_network(name) for name in subjects},
        parameters={
            name: count_parameters(subject.network)
            for name, subject in subjects.items()
        },
        measures=[],
    )
    batches = args.inference_batches or setting['inference_batches']
    kinds = [('train', shape[0])] if 'train' in args.measures else []
    if 'inference' in args.measures:
        kinds += [('inference', batch) for batch in batches]
    for kind, batch in kinds:
        shape = [batch, *shape[1:]]
        measured = measure_kind(kind, shape, subjects, args)
        run['measures'].append(dict(kind=kind, shape=shape, **measured))
        yield run


def measure_kind(kind, shape, subjects, args):
    """Measures time and memory of one kind of step."""
    steps, images = {}, None
    for name, subject in subjects.items():
        if kind == 'train' and name in INFERENCE_ONLY:
            continue
        if images is None:
            images = subject.images(shape)
        prepare = dict(
            train=subject.train_step, inference=subject.inference_step
        )[kind]
        steps[name] = prepare(images)
    print(f'{kind}, {"×".join(map(str, shape))}: {", ".join(steps)}')
    device = torch.device(args.device)
    peak, seconds = {}, []
    for name, step in steps.items():
        step()  # compiles, allocates
        start = time.perf_counter()
        peak[name] = subjects[name].peak_memory(step, images)
        seconds.append(time.perf_counter() - start)
    times = time_in_turn(
        steps,
        device,
        # of short steps several, that the clock sees more than itself
        max(1, math.ceil(MIN_SAMPLE_SECONDS / min(seconds))),
        args.tolerance,
        args.min_rounds,
        args.max_seconds,
    )
    return dict(seconds=times, peak_bytes=peak)


def main():
    args = parse_args()
    # not of interest to who measures only time
    warnings.filterwarnings('ignore', message='BA2M: a batch norm')
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    if args.report:
        runs = [json.loads(Path(path).read_text()) for path in args.report]
    else:
        for run in measure(args):
            runs = [run]
            text = json.dumps(run, indent=1)
            (out_dir / 'benchmark.json').write_text(text, encoding='utf-8')
    table = format_runs(runs)
    (out_dir / 'benchmark.md').write_text(table, encoding='utf-8')
    draw_runs(runs, out_dir / 'benchmark.png')
    print(f'\n{table}\nwritten to {out_dir}')


if __name__ == '__main__':
    main()
