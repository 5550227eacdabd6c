"""Finds the checkpoint from which an interrupted run goes on."""

import logging
import math
import os
import re
from pathlib import Path

from mmengine.logging import print_log

from .files import load_checkpoint


def find_checkpoint(work_dir):
    """Finds the newest checkpoint of a run that can be read.

    That is the one which ``last_checkpoint`` names, or else the one before
    it. Where there is no such file, or it names one that is gone, the numbers
    of ``epoch_*.pth`` or ``iter_*.pth`` say which is the newest.

    Args:
        work_dir (str | Path): The folder of the run.

    Returns:
        str | None: Its path; ``None`` where no run has saved anything.

    Raises:
        ValueError: If no checkpoint can be read: starting anew would write
            over what is left of them.
        FileNotFoundError: If only ``last_checkpoint`` is left.
        pickle.UnpicklingError: If the newest holds what may run code.
    """
    last, candidates = _candidates(Path(work_dir))
    if last and not candidates:
        raise FileNotFoundError(
            f'{Path(work_dir, "last_checkpoint")} names {last}, which is not '
            'there, and there is no other. Name one with --resume PATH, or '
            'start anew without --resume'
        )
    problems = []
    for path in candidates:
        try:
            checkpoint = load_checkpoint(path)
            if 'meta' not in checkpoint:
                raise ValueError(f'{path} has weights only')
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        # every rank looks, and one tells
        first = not int(os.environ.get('RANK', 0))
        for problem in problems if first else ():
            print_log(
                f'{problem}. Going on from {path} instead',
                'current',
                logging.WARNING,
            )
        return str(path)
    if problems:
        raise ValueError(
            f'no checkpoint in {work_dir} can be read: {"; ".join(problems)}. '
            'Name another with --resume PATH, or start anew without --resume'
        )
    return None


def _candidates(folder):
    """What ``last_checkpoint`` says, and which files to try, newest first."""
    pointer = folder / 'last_checkpoint'
    last = pointer.read_text().strip() if pointer.is_file() else ''
    # the folder may have been moved, or hold no checkpoints itself
    for path in (folder / Path(last).name, Path(last)) if last else ():
        if path.is_file():
            numbers = _numbers(path.parent)
            if path not in numbers:  # of another name, so there is no order
                return last, [path]
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
        kind, newest = next(iter(kinds), None), math.inf
    # what has a higher number than the last one is of an earlier run
    found = [
        (number, path)
        for path, (other, number) in numbers.items()
        if other == kind and number <= newest
    ]
    return last, [path for _, path in sorted(found, reverse=True)]


def _numbers(folder):
    """Maps the checkpoints of a folder to what they count, and how many."""
    numbers = {}
    for path in folder.glob('*.pth'):
        match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
        if match:
            numbers[path] = (match[1], int(match[2]))
    return numbers
