"""A run killed at random moments against one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from tool_runs import ROOT, run_tool

from mmba2m.datasets import make_shapes

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


@contextmanager
def start(config, work_dir, shapes):
    """A training in a process group of its own, so that none is left over."""
    log = work_dir.with_suffix('.log')
    with log.open('w') as stream:
        process = subprocess.Popen(
            [
                *(sys.executable, 'tools/train.py', str(config)),
                *('--resume', '--work-dir', str(work_dir)),
            ],
            cwd=ROOT,
            env=dict(os.environ, SHAPES_ROOT=str(shapes)),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process, log
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_killed_runs_end_as_one_left_alone(tmp_path, assert_same_checkpoints):
    shapes = make_shapes(tmp_path / 'shapes', num_train=24, num_val=4)
    # long enough to be killed so often
    length = 2 * KILLS + 2
    config, parts = tmp_path / 'config.py', tmp_path / 'parts'
    config.write_text(CONFIG.format(root=ROOT, length=length))
    whole = tmp_path / 'whole'
    env = dict(SHAPES_ROOT=str(shapes))
    output = run_tool('train.py', config, '--work-dir', whole, env=env)
    between_checkpoints = output.count('(train)') // length

    for kill in range(KILLS):
        with start(config, parts, shapes) as (process, log):
            count = random.randint(1, between_checkpoints * 3 // 2)
            while process.poll() is None:
                if log.read_text().count('(train)') >= count:
                    break
                time.sleep(0.005)
            # also while a checkpoint is saved, or validated
            time.sleep(random.uniform(0, 0.1))
            # on a slow machine it may get through, but not before a kill
            assert kill or process.poll() is None, log.read_text()[-3000:]
    with start(config, parts, shapes) as (process, log):
        assert process.wait() == 0, log.read_text()[-3000:]

    name = f'epoch_{length}.pth'
    assert_same_checkpoints(whole / name, parts / name)
    (best,) = (path.name for path in whole.glob('best_*'))
    assert [path.name for path in parts.glob('best_*')] == [best]
