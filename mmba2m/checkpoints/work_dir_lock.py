"""One run at a time in a work dir."""

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from filelock import FileLock, Timeout
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

#: seconds that workers of a killed run may outlive it
WAIT = 10.0


@contextmanager
def hold(work_dir: str | Path):
    """Keeps other runs out of a work dir, whichever rank calls.

    The operating system holds the lock, so that of a run that died is free.
    Where a file system has none, a warning says so.

    Args:
        work_dir: The folder, which exists.

    Raises:
        RuntimeError: If another run is in it; it says which.
    """
    lock = FileLock(Path(work_dir, '.lock'), timeout=WAIT)
    owner = Path(work_dir, '.lock-owner')
    problem: list[str | None] = [None]
    try:
        if is_main_process():
            lock.acquire()
            owner.write_text(f'process {os.getpid()} on {gethostname()}')
    except Timeout:
        named = 'just begun'
        if owner.is_file():
            named = owner.read_text('utf-8', 'replace')
        problem[0] = (
            f'another run trains in {work_dir} ({named}). Let it end, or name '
            'another --work-dir'
        )
    except (OSError, NotImplementedError) as error:  # of network drives
        print_log(
            f'{work_dir} cannot be locked ({error}): name it for no other run '
            'before this one ends',
            'current',
            logging.WARNING,
        )
    broadcast_object_list(problem)
    if problem[0]:
        raise RuntimeError(problem[0])
    try:
        yield
    finally:
        lock.release()
