"""Runs what a GPU is wanted for within 15 minutes, most telling first.

Tests that need one, operations, the backbone benchmark, and the study of
ResNet-50 on CIFAR-10. Each writes OUT_DIR/NAME.txt as it comes. What this
machine lacks is said, and what needs it left out.
"""

import argparse
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = 'tools/benchmark/benchmark_backbone.py --max-seconds 8 --setting '
FAST = ' --precision bf16 --channels-last'
#: name, seconds at most, packages, command
JOBS = [
    ('tests', 200, 'mmcv pytest', '-m pytest -q -m gpu tests/test_gpu.py'),
    ('operations', 40, 'mmcv', 'tools/benchmark/operations.py'),
]
for name, host, options in (
    ('imagenet', 'mmpretrain', ' --train-batches 64'),
    ('imagenet_bf16', 'mmpretrain', ' --train-batches 64' + FAST),
    ('imagenet_compiled', 'mmpretrain', ' --train-batches 64 --compile'),
    ('detection', 'mmdet', ' --train-batches 2 16'),
    ('detection_bf16', 'mmdet', ' --train-batches 2 16' + FAST),
    ('cifar', 'mmpretrain', ''),
):
    command = BENCHMARK + name.partition('_')[0] + options
    JOBS.append((name, 90, f'mmcv {host}', command))
STUDY = (
    'tools/studies/run.py configs/studies/cifar10_resnet50_gpu.yml --jobs 3'
)
JOBS.append(('study', 900, 'mmcv mmpretrain', STUDY))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--device', choices=['cuda', 'cpu'], default='cuda')
    add('--size', type=int, help='small images, two at once: a trial')
    add('--minutes', type=float, default=15)
    add('--out-dir', type=Path, default=ROOT / 'work_dirs/gpu')
    return parser.parse_args()


def main():
    args = parse_args()
    args.out_dir = args.out_dir.resolve()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    for name, limit, packages, command in JOBS:
        lacking = [
            package
            for package in ('torch', 'mmengine', *packages.split())
            if find_spec(package) is None
        ]
        if name == 'study' and args.device == 'cpu':
            lacking.append('a GPU')
        if time.monotonic() > end - 5:
            lacking.append('time')
        if lacking:
            print(f'{name}: left out, {", ".join(lacking)} is missing')
            continue
        words = [sys.executable, *command.split()]
        if 'benchmark_backbone' in command:
            words += ['--device', args.device]
            words += ['--out-dir', str(args.out_dir / name)]
            if args.size:
                words += ['--size', str(args.size), str(args.size)]
                words += ['--train-batches', '2', '--inference-batches', '1']
        if name == 'study':
            for option, folder in (
                ('--results', 'study'),
                ('--work-dir', 'runs'),
            ):
                words += [option, str(args.out_dir / folder)]
        start = time.monotonic()
        try:
            with open(args.out_dir / f'{name}.txt', 'w') as out:
                seconds = max(min(limit, end - start), 1)
                done = subprocess.run(
                    words, cwd=ROOT, stdout=out, stderr=out, timeout=seconds
                ).returncode
            said = 'done' if done == 0 else f'failed, see {out.name}'
        except subprocess.TimeoutExpired:
            said = f'stopped after {seconds:.0f} s, what it had is kept'
        print(f'{name}: {said} ({time.monotonic() - start:.0f} s)', flush=True)


if __name__ == '__main__':
    main()
