import errno
import os
import signal
import time
from pathlib import Path

import pytest

from mmba2m.checkpoints import work_dir_lock


def test_one_run_holds_a_folder_until_it_is_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(work_dir_lock, 'WAIT', 0.1)
    child = os.fork()
    if not child:
        with work_dir_lock.hold(tmp_path):
            Path(tmp_path, 'ready').touch()
            signal.pause()
    while not Path(tmp_path, 'ready').exists():
        time.sleep(0.01)
    whose = rf'{tmp_path} \(process {child} on .*--work-dir'
    refused = pytest.raises(RuntimeError, match=whose)
    with refused, work_dir_lock.hold(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for _ in range(2):  # and after an error
        with pytest.raises(KeyError), work_dir_lock.hold(tmp_path):
            owner = Path(tmp_path, '.lock-owner').read_text()
            assert f'process {os.getpid()} on' in owner
            raise KeyError


def test_a_drive_without_locks_is_trained_on_with_a_warning(
    tmp_path, monkeypatch
):
    def fail(self):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(work_dir_lock.FileLock, 'acquire', fail)
    told = []
    monkeypatch.setattr(
        work_dir_lock, 'print_log', lambda text, *_: told.append(text)
    )
    with work_dir_lock.hold(tmp_path):
        assert 'cannot be locked ([Errno' in told[0]
