"""What a full disk, a cut-off file and a stranger's pickle do to the tools."""

import os
import re
import resource
import shutil
from functools import partial

import pytest
import torch
from tool_runs import run_process, run_tool

from mmba2m.checkpoints.files import load_checkpoint


@pytest.fixture
def work_dir(classifier_run, tmp_path):
    """Of a run killed after the second of its epochs."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for epoch in (1, 2):
        shutil.copy(classifier_run / f'epoch_{epoch}.pth', folder)
    return folder


@pytest.fixture
def run(classifier_run, shapes):
    config = next(classifier_run.glob('*.py'))

    def run(tool, *args, run=run_tool, **kwargs):
        env = {'SHAPES_ROOT': str(shapes)}
        return run(tool, config, *args, env=env, **kwargs)

    return run


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_loses_nothing(run, work_dir):
    before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    limit = (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    output = run(
        'train.py',
        '--work-dir',
        work_dir,
        '--resume',
        run=run_process,
        prepare=partial(resource.setrlimit, resource.RLIMIT_FSIZE, limit),
        fails=True,
    )
    assert f"{work_dir / 'epoch_3.pth'}'" in output.splitlines()[-1]
    assert 'epoch_3.pth was not saved' in output.splitlines()[-1]
    after = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    assert after == before
    assert not list(work_dir.glob('*.mmba2m-part'))


@pytest.mark.slow
def test_resume_skips_what_cannot_be_read(run, work_dir):
    newest = work_dir / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-1000])
    options = ['--cfg-options', 'train_cfg.max_epochs=4']
    output = run('train.py', '--work-dir', work_dir, '--resume', *options)
    assert f'{newest} is damaged, or no checkpoint' in output
    assert f'Going on from {work_dir / "epoch_1.pth"} instead' in output
    assert 'resumed epoch: 1, iter: ' in output
    # saved by a run of three epochs, so its schedule ends there
    found = re.search(
        r'CosineAnnealingLR\) has end (\d+) instead of (\d+)', output
    )
    assert int(found[1]) * 4 == int(found[2]) * 3
    for epoch in (2, 3, 4):
        checkpoint = load_checkpoint(work_dir / f'epoch_{epoch}.pth')
        assert checkpoint['meta']['epoch'] == epoch


class Touch:
    """Creates a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(run, work_dir, tmp_path):
    checkpoint = load_checkpoint(work_dir / 'epoch_2.pth')
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
    path = work_dir / 'epoch_2.pth'
    output = run(
        'train.py',
        '--work-dir',
        tmp_path / 'other',
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={path}',
        fails=True,
    )
    (message,) = output.splitlines()[-1:]
    assert message.startswith('ValueError: backbone: init_cfg loads 0 of')
    assert "Did you mean prefix='backbone.'?" in message
    assert not list((tmp_path / 'other').glob('*.pth'))
