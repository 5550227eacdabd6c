"""The checkpoints from which an interrupted run goes on."""

import logging
import math
import os
import re
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from .checks import read_weights
from .files import load_checkpoint


def read_newest(work_dir: str | Path) -> tuple[str, dict] | None:
    """Reads the newest checkpoint from which a run can go on.

    Args:
        work_dir: The folder of the run.

    Returns:
        Its path and what it holds; ``None`` where no run has saved anything.

    Raises:
        ValueError: If no checkpoint can be read: starting anew would write
            over what is left of them.
        FileNotFoundError: If only ``last_checkpoint`` is left.
        pickle.UnpicklingError: If the newest holds what may run code.
    """
    problems = []
    for path in list_checkpoints(work_dir):
        try:
            checkpoint = load_checkpoint(path)
            check_resumable(checkpoint, path)
            read_weights(checkpoint, path)
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        # every rank looks, and one tells
        for problem in problems if is_main_process() else ():
            print_log(
                f'{problem}. Going on from {path} instead',
                'current',
                logging.WARNING,
            )
        return str(path), checkpoint
    if problems:
        raise ValueError(
            f'no checkpoint in {work_dir} can be read: {"; ".join(problems)}. '
            'Name another with --resume PATH, or start anew without --resume'
        )
    return None


def check_resumable(checkpoint: dict, path: str | Path) -> None:
    """Refuses a checkpoint that a run cannot go on from.

    Raises:
        ValueError: If it lacks what MMEngine keeps beside the weights.
    """
    meta = checkpoint.get('meta')
    kept = {**(meta if isinstance(meta, dict) else {}), **checkpoint}
    needed = ('state_dict', 'message_hub', 'epoch', 'iter')
    if any(kept.get(key) is None for key in needed):
        raise ValueError(
            f'{path} is of no training to go on with: it needs '
            f'{", ".join(needed)}. To start from its weights, name it as '
            'load_from, without --resume'
        )


def list_checkpoints(work_dir: str | Path) -> list[Path]:
    """Lists the checkpoints of a run, the newest first.

    That is the one which ``last_checkpoint`` names, and those before it.
    Where there is no such file, or it names one that is gone, the numbers of
    ``epoch_*.pth`` or ``iter_*.pth`` say which is the newest.

    Args:
        work_dir: The folder of the run.

    Returns:
        Their paths.

    Raises:
        ValueError: If there are both kinds, and no ``last_checkpoint``.
        FileNotFoundError: If only ``last_checkpoint`` is left.
    """
    folder = Path(work_dir)
    pointer = folder / 'last_checkpoint'
    last = ''
    if pointer.is_file():
        last = pointer.read_text('utf-8', 'replace').strip()
    # the folder may have been moved, or hold no checkpoints itself
    for path in (folder / Path(last).name, Path(last)) if last else ():
        if os.path.isfile(path):  # of any length
            numbers = _numbers(path.parent)
            if path not in numbers:  # of another name, so there is no order
                return [path]
            kind, newest = numbers[path]
            break
    else:
        numbers = _numbers(folder)
        kinds = {kind for kind, _ in numbers.values()}
        if len(kinds) > 1:
            raise ValueError(
                f'{folder} has both epoch_*.pth and iter_*.pth, and no '
                'last_checkpoint that is there. Name one with --resume PATH'
            )
        if last and not kinds:
            raise FileNotFoundError(
                f'{pointer} names {last[:200]}, which is not there, and '
                'there is no other. Name one with --resume PATH, or start '
                'anew without --resume'
            )
        kind, newest = next(iter(kinds), None), math.inf
    # what has a higher number than the last one is of an earlier run
    found = [
        (number, path)
        for path, (other, number) in numbers.items()
        if other == kind and number <= newest
    ]
    return [path for _, path in sorted(found, reverse=True)]


def _numbers(folder):
    """Maps the checkpoints of a folder to what they count, and how many."""
    numbers = {}
    for path in folder.glob('*.pth'):
        match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
        if match:
            numbers[path] = (match[1], int(match[2]))
    return numbers
