"""Measures how fast whole detectors train: configs side by side, in turns.

Iterations a second, the time that each waits for data, and memory, from
MMEngine's own timers. Each block of iterations is a process of its own;
blocks of all configs and variants take turns. Nothing is validated, and
nothing is written but a Markdown table and a JSON file.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from mmengine.hooks import Hook

from mmba2m.checkpoints.benchmark.environment import describe_environment
from mmba2m.checkpoints.benchmark.timing import median_interval, paired_ratios
from mmba2m.engine.cli import create_parser, load_config
from mmba2m.data_checks import check_data
from mmba2m.engine.distributed import build_runner

DEMO = 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('configs', nargs='*', default=[DEMO])
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='settings that override those of all configs',
    )
    parser.add_argument(
        '--variant',
        nargs='+',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='measure each config once more with these settings, e.g. '
        'train_dataloader.num_workers=4; can be given several times',
    )
    parser.add_argument(
        '--iterations', type=int, default=50, help='measured in a block'
    )
    parser.add_argument(
        '--warmup',
        type=int,
        default=10,
        help='iterations of a block before those measured',
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=6,
        help='blocks of each; fewer than 6 give less than a 95 %% interval',
    )
    parser.add_argument(
        '--out-dir',
        default='work_dirs/benchmark_train',
        help='folder for benchmark_train.json and .md',
    )
    return parser.parse_args()


class _Timer(Hook):
    """Keeps the times that MMEngine's IterTimerHook has measured."""

    priority = 'LOWEST'

    def __init__(self):
        self.time = []
        self.data_time = []

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        scalar = runner.message_hub.get_scalar
        self.time.append(scalar('train/time').current())
        self.data_time.append(scalar('train/data_time').current())


def run_block(config, options, warmup, iterations):
    """Trains for a number of iterations, in a folder that is removed.

    Args:
        config (str): Config file.
        options (list[str]): Settings, as of ``--cfg-options``.
        warmup (int): Iterations that are not measured.
        iterations (int): Iterations that are.

    Returns:
        dict: Mean seconds of an iteration, those of it that data took, and
        bytes of peak memory: of the GPU's allocator, or of the process (data
        loading workers aside).
    """
    # MMEngine on this process, which is spawned so that it is a fresh one
    warnings.filterwarnings('ignore', message='Multi-processing start method')
    with tempfile.TemporaryDirectory() as work_dir:
        args = ['--work-dir', work_dir]
        args += ['--cfg-options', *options] if options else []
        cfg = load_config(create_parser('').parse_args([config, *args]))
        limit_training(cfg, warmup + iterations)
        check_data(cfg, ('train_dataloader',))
        runner = build_runner(cfg)
        timer = _Timer()
        runner.register_hook(timer)
        runner.train()
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return dict(
        time=sum(timer.time[warmup:]) / iterations,
        data_time=sum(timer.data_time[warmup:]) / iterations,
        peak_bytes=peak,
    )


def limit_training(cfg, iterations):
    """Leaves of a config's training only its iterations.

    The learning rate is next to 0: what a detector finds, and so what its
    heads have to do, stays as the weights at the start have it.

    Args:
        cfg (Config): A detector's or classifier's, changed in place.
        iterations (int): How many.
    """
    cfg.train_cfg = dict(
        by_epoch=False, max_iters=iterations, val_interval=iterations + 1
    )
    for phase in ('val', 'test'):
        for part in ('cfg', 'dataloader', 'evaluator'):
            cfg.pop(f'{phase}_{part}', None)
    cfg.param_scheduler = [
        dict(type='ConstantLR', factor=1e-6, by_epoch=False, end=10**9)
    ]
    cfg.setdefault('default_hooks', {})
    cfg.default_hooks.update(checkpoint=None, logger=None)
    if cfg.get('visualizer'):
        cfg.visualizer.vis_backends = []
    cfg.randomness = {'seed': 0, **cfg.get('randomness', {})}
    cfg.resume = False
    cfg.log_level = 'WARNING'


def measure(args):
    """Measures as the command line says.

    Args:
        args (argparse.Namespace): From :func:`parse_args`.

    Returns:
        dict: For JSON: the blocks of each config and variant.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    jobs = {}
    for config in args.configs:
        for variant in [[], *args.variant]:
            name = ' '.join([Path(config).stem, *variant])
            jobs[name] = config, [*args.cfg_options, *variant]
    blocks = {name: [] for name in jobs}
    shuffler = random.Random(0)
    for index in range(args.rounds):
        for name in shuffler.sample(list(jobs), len(jobs)):
            # a process that is used once: no cache, no memory of another
            context = multiprocessing.get_context('spawn')
            with ProcessPoolExecutor(1, context) as pool:
                block = pool.submit(
                    run_block, *jobs[name], args.warmup, args.iterations
                ).result()
            blocks[name].append(block)
            print(
                f'round {index + 1} of {args.rounds}: {name}: '
                f'{block["time"]:.3f} s an iteration, '
                f'{block["data_time"]:.3f} s of it for data',
                flush=True,
            )
    return dict(
        blocks=blocks,
        options=args.cfg_options,
        iterations=args.iterations,
        warmup=args.warmup,
        environment=describe_environment(device),
    )


def format_table(run):
    """Writes a Markdown table.

    Args:
        run (dict): From :func:`measure`.

    Returns:
        str: Medians over the blocks, and ratios to the first row.
    """
    first = next(iter(run['blocks']))
    baseline = [block['time'] for block in run['blocks'][first]]
    lines = [
        [
            'config',
            'iterations/s',
            'time [s]',
            '× first',
            'data time [s]',
            'peak memory [MiB]',
        ],
        [':--', *['--:'] * 5],
    ]
    for name, blocks in run['blocks'].items():
        times = [block['time'] for block in blocks]
        ratio = median_interval(paired_ratios(times, baseline))
        time = median_interval(times)[0]
        lines.append(
            [
                name,
                f'{1 / time:.3f}',
                f'{time:.4f}',
                '1'
                if name == first
                else '{:.3f} ({:.3f}–{:.3f})'.format(*ratio),
                f'{median_interval([b["data_time"] for b in blocks])[0]:.4f}',
                f'{max(b["peak_bytes"] for b in blocks) / 2**20:.0f}',
            ]
        )
    environment = ', '.join(f'{k} {v}' for k, v in run['environment'].items())
    options = ''.join(f', {option}' for option in run['options'])
    return '\n'.join(
        [
            f'{len(baseline)} blocks of {run["iterations"]} iterations after '
            f'{run["warmup"]} of warm-up{options} ({environment}).',
            '',
            *(f'| {" | ".join(line)} |' for line in lines),
            '',
        ]
    )


def main():
    args = parse_args()
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    run = measure(args)
    table = format_table(run)
    text = json.dumps(run, indent=1)
    (out_dir / 'benchmark_train.json').write_text(text, encoding='utf-8')
    (out_dir / 'benchmark_train.md').write_text(table, encoding='utf-8')
    print(f'\n{table}\nwritten to {out_dir}')


if __name__ == '__main__':
    main()
