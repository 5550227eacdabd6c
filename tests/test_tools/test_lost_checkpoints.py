"""What a full disk and a cut-off file do to a training."""

import re
import resource
import shutil
from functools import partial

import pytest
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
def resume(classifier_run, shapes, work_dir):
    config = next(classifier_run.glob('*.py'))
    args = ('train.py', config, '--resume', '--work-dir', work_dir)
    env = {'SHAPES_ROOT': str(shapes)}
    return lambda run, *more, **kwargs: run(*args, *more, env=env, **kwargs)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_loses_nothing(resume, work_dir):
    before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    limit = (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    prepare = partial(resource.setrlimit, resource.RLIMIT_FSIZE, limit)
    output = resume(run_process, prepare=prepare, fails=True)
    assert f"{work_dir / 'epoch_3.pth'}'" in output.splitlines()[-1]
    assert 'epoch_3.pth was not saved' in output.splitlines()[-1]
    after = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
    assert after == before
    assert not list(work_dir.glob('*.mmba2m-part'))


@pytest.mark.slow
def test_resume_skips_what_cannot_be_read(resume, work_dir):
    newest = work_dir / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-1000])
    options = ['--cfg-options', 'train_cfg.max_epochs=4']
    output = resume(run_tool, *options)
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
