import os
import signal
import time
from pathlib import Path

import pytest

from mmba2m.checkpoints import work_dir_lock


@pytest.fixture
def child(tmp_path):
    """Another process that holds the folder."""
    ready = tmp_path / 'ready'
    child = os.fork()
    if not child:
        with work_dir_lock.hold(tmp_path):
            ready.touch()
            signal.pause()
    while not ready.exists():
        time.sleep(0.01)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_one_run_holds_a_folder_and_the_other_is_told(
    child, tmp_path, monkeypatch
):
    monkeypatch.setattr(work_dir_lock, 'WAIT', 0.1)
    whose = rf'{tmp_path} \(process {child} on .*--work-dir'
    with (
        pytest.raises(RuntimeError, match=whose),
        work_dir_lock.hold(tmp_path),
    ):
        pass
    (tmp_path / 'other').mkdir()
    with work_dir_lock.hold(tmp_path / 'other'):
        pass


def test_the_lock_of_a_dead_owner_is_taken_over(tmp_path):
    child = os.fork()
    if not child:
        with work_dir_lock.hold(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    for _ in range(2):  # and after an error
        with pytest.raises(KeyError), work_dir_lock.hold(tmp_path):
            owner = Path(tmp_path, '.lock-owner').read_text()
            assert f'process {os.getpid()} on' in owner
            raise KeyError
