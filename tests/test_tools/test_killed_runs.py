"""A run killed at random moments against one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tool_runs import run_tool

from mmba2m.datasets import make_shapes

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get('KILLS', 2))

# by epoch; augmentation of Python, NumPy and torch, Mixup, dropout
CONFIG = """
_base_ = '{root}/configs/demo/ba2m-resnet18_shapes.py'
model = dict(
    backbone=dict(drop_path_rate=0.1),
    train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=32),
            dict(type='RandAugment', policies='timm_increasing',
                 num_policies=2, total_level=10, magnitude_level=9),
            dict(type='torchvision/ToTensor'),
            dict(type='torchvision/RandomErasing', p=0.5),
            dict(type='torchvision/ToPILImage'),
            dict(type='PILToNumpy'),
            dict(type='PackInputs'),
        ],
    ),
)
randomness = dict(seed=0)
train_cfg = dict(max_epochs={length})
param_scheduler = dict(T_max={length})
custom_hooks = [dict(type='EMAHook', momentum=0.01)]
default_hooks = dict(logger=dict(interval=1))
"""


class Run:
    """A training in a process group of its own, so that none is left over."""

    def __init__(self, config, work_dir, shapes):
        self.log = work_dir.with_suffix('.log')
        self.stream = self.log.open('a')
        self.stream.write('--- start\n')
        self.stream.flush()
        self.process = subprocess.Popen(
            [
                *(sys.executable, 'tools/train.py', str(config)),
                *('--resume', '--work-dir', str(work_dir)),
            ],
            cwd=ROOT,
            env=dict(os.environ, SHAPES_ROOT=str(shapes)),
            stdout=self.stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.stream.close()

    def count_iterations(self):
        """Counts the lines that tell of one, since the last start."""
        return self.log.read_text().rpartition('--- start')[2].count('(train)')

    def wait_for_iterations(self, count):
        while self.process.poll() is None and self.count_iterations() < count:
            time.sleep(0.005)

    def finish(self):
        assert self.process.wait() == 0, self.log.read_text()[-3000:]


@pytest.mark.slow
def test_killed_runs_end_as_one_left_alone(tmp_path, assert_same_checkpoints):
    shapes = tmp_path / 'shapes'
    make_shapes(shapes, num_train=24, num_val=4)
    # long enough to be killed so often
    length = 2 * KILLS + 2
    (tmp_path / 'config.py').write_text(
        CONFIG.format(root=ROOT, length=length)
    )

    def start(name):
        return Run(tmp_path / 'config.py', tmp_path / name, shapes)

    output = run_tool(
        *('train.py', tmp_path / 'config.py'),
        *('--work-dir', tmp_path / 'whole'),
        env=dict(SHAPES_ROOT=str(shapes)),
    )
    between_checkpoints = output.count('(train)') // length

    for kill in range(KILLS):
        with start('parts') as run:
            run.wait_for_iterations(
                random.randint(1, between_checkpoints * 3 // 2)
            )
            # also while a checkpoint is saved, or validated
            time.sleep(random.uniform(0, 0.1))
            # on a slow machine it may get through, but not before a kill
            assert kill or run.process.poll() is None, run.log.read_text()[
                -3000:
            ]
    with start('parts') as run:
        run.finish()

    name = f'epoch_{length}.pth'
    assert_same_checkpoints(
        tmp_path / 'whole' / name, tmp_path / 'parts' / name
    )
    best = [
        sorted(path.name for path in (tmp_path / name).glob('best_*'))
        for name in ('whole', 'parts')
    ]
    assert best[0] == best[1]
    assert len(best[0]) == 1
