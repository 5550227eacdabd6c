"""What a full disk, a cut-off file and a stranger's pickle do to the tools."""

import os
import re
import resource
from functools import partial
from pathlib import Path

import pytest
import torch
from tool_runs import run_tool

from mmba2m.datasets import make_shapes
from mmba2m.checkpoints.files import load_checkpoint

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/demo/ba2m-resnet18_shapes.py'
OPTIONS = (
    'model.backbone.base_channels=8',
    'model.head.in_channels=64',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'train_dataloader.batch_size=8',
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    shapes = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(shapes, num_train=8, num_val=2)

    def run(tool, *args, options=(), max_size=None, **kwargs):
        limit = (max_size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        return run_tool(
            tool,
            CONFIG,
            *args,
            '--cfg-options',
            *OPTIONS,
            *options,
            env={'SHAPES_ROOT': str(shapes)},
            prepare=max_size
            and partial(resource.setrlimit, resource.RLIMIT_FSIZE, limit),
            **kwargs,
        )

    return run


@pytest.fixture(scope='module')
def work_dir(run, tmp_path_factory):
    """Of a run of two epochs."""
    folder = tmp_path_factory.mktemp('run')
    run('train.py', '--work-dir', folder, options=['train_cfg.max_epochs=2'])
    assert {path.name for path in folder.glob('epoch_*')} == {
        'epoch_1.pth',
        'epoch_2.pth',
    }
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.glob('*.pth')}


def test_a_full_disk_ends_the_run_and_loses_nothing(run, work_dir):
    before = contents(work_dir)
    output = run(
        'train.py',
        '--work-dir',
        work_dir,
        '--resume',
        options=['train_cfg.max_epochs=4'],
        max_size=200_000,
        fails=True,
    )
    assert f"{work_dir / 'epoch_3.pth'}'" in output.splitlines()[-1]
    assert 'epoch_3.pth was not saved' in output.splitlines()[-1]
    assert contents(work_dir) == before
    assert not list(work_dir.glob('*.mmba2m-part'))


def test_resume_skips_what_cannot_be_read(run, work_dir):
    newest = work_dir / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-1000])
    output = run(
        'train.py',
        '--work-dir',
        work_dir,
        '--resume',
        options=['train_cfg.max_epochs=3'],
    )
    assert f'{newest} is damaged, or no checkpoint' in output
    assert f'Going on from {work_dir / "epoch_1.pth"} instead' in output
    assert 'resumed epoch: 1, iter: ' in output
    # saved by a run of two epochs, so its schedule ends there
    found = re.search(
        r'CosineAnnealingLR\) has end (\d+) instead of (\d+)', output
    )
    assert int(found[1]) * 3 == int(found[2]) * 2
    for epoch in (2, 3):
        checkpoint = load_checkpoint(work_dir / f'epoch_{epoch}.pth')
        assert checkpoint['meta']['epoch'] == epoch


class Touch:
    """Creates a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(run, work_dir, tmp_path):
    checkpoint = load_checkpoint(work_dir / 'epoch_3.pth')
    checkpoint['meta']['hook'] = Touch(tmp_path / 'proof')
    path = tmp_path / 'stranger.pth'
    torch.save(checkpoint, path)
    output = run('test.py', path, '--work-dir', tmp_path / 'out', fails=True)
    assert f'{path} was not loaded: it holds {os.name}.mkdir' in output
    assert not (tmp_path / 'proof').exists()
    with pytest.raises(FileExistsError):  # it would have run
        (tmp_path / 'proof').mkdir()
        torch.load(path, weights_only=False)


def test_a_pretrained_backbone_without_prefix_is_refused(
    run, work_dir, tmp_path
):
    path = work_dir / 'epoch_3.pth'
    output = run(
        'train.py',
        '--work-dir',
        tmp_path,
        options=[
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={path}',
        ],
        fails=True,
    )
    (message,) = output.splitlines()[-1:]
    assert message.startswith('ValueError: backbone: init_cfg loads 0 of')
    assert "Did you mean prefix='backbone.'?" in message
    assert not list(tmp_path.glob('*.pth'))
