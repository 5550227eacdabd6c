"""One run at a time in a work dir."""

import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.dist import broadcast_object_list, is_main_process

#: seconds that workers of a killed run may outlive it
WAIT = 10.0


@contextmanager
def hold(work_dir: str | Path):
    """Keeps other runs out of a work dir, whichever rank calls.

    The operating system holds the lock, so that of a run that died is free.

    Args:
        work_dir: The folder, which exists.

    Raises:
        RuntimeError: If another run is in it; it says which.
    """
    lock = FileLock(Path(work_dir, '.lock'), timeout=WAIT)
    owner = Path(work_dir, '.lock-owner')
    problem = [None]
    try:
        if is_main_process():
            lock.acquire()
            started = time.strftime('%Y-%m-%d %H:%M:%S')
            owner.write_text(
                f'process {os.getpid()} on {socket.gethostname()}, {started}'
            )
    except Timeout:
        named = owner.read_text(errors='replace') if owner.is_file() else ''
        problem[0] = (
            f'another run is training in {work_dir} ({named or "just begun"}'
            '). Let it end, or name another --work-dir'
        )
    broadcast_object_list(problem)
    if problem[0]:
        raise RuntimeError(problem[0])
    try:
        yield
    finally:
        lock.release()
