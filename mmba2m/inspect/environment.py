"""What a measurement depends on: machine, versions, commit."""

import os
import platform
import subprocess
from datetime import date
from pathlib import Path

import torch

from mmba2m.stack import SUPPORTED, find_version


def describe_environment() -> dict[str, str | int]:
    """Describes what a measurement was taken with, for a table and JSON.

    Returns:
        Date, commit of this checkout, processor and GPU, threads, versions
        of the stack, and under their own names the variables of allocator
        and threads: they change times a lot.
    """
    info = Path('/proc/cpuinfo')  # platform knows no more than x86_64
    text = info.read_text() if info.exists() else ''
    models = [x for x in text.splitlines() if x.startswith('model name')]
    command = ['git', 'describe', '--always', '--dirty', '--exclude=*']
    try:
        commit = subprocess.check_output(
            command,
            cwd=Path(__file__).parent,
            text=True,
            stderr=subprocess.DEVNULL,
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        commit = 'unknown'
    found: dict[str, str | int] = dict(date=str(date.today()), commit=commit)
    found['cpu'] = (models or [platform.machine()])[0].split(': ')[-1]
    if torch.cuda.is_available():
        found['gpu'] = torch.cuda.get_device_name()
    found.update(cores=os.cpu_count() or 1, threads=torch.get_num_threads())
    found['python'] = platform.python_version()
    found |= dict(filter(None, map(find_version, SUPPORTED)))
    names = ('GLIBC_', 'GOMP_', 'KMP_BLOCK', 'LD_PRE', 'MALLOC_', 'OMP_')
    found |= {k: v for k, v in os.environ.items() if k.startswith(names)}
    return found
