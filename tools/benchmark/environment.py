"""What a measurement depends on: machine, versions, commit."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import torch

from mmba2m.stack import SUPPORTED, find_version

_VARIABLES = (
    'GLIBC_TUNABLES',
    'GOMP_',
    'KMP_',
    'LD_PRELOAD',
    'MALLOC_',
    'OMP_',
    'PYTORCH_CUDA_ALLOC_CONF',
)


def describe_environment(device):
    """Describes what a measurement was taken with.

    Args:
        device (torch.device): Where it was taken.

    Returns:
        dict[str, str | int]: For a table and a JSON file.
    """
    environment = dict(
        date=datetime.now(timezone.utc).strftime('%Y-%m-%d'),
        commit=_find_commit(),
        cpu=_find_cpu(),
        cores=_count_cores(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
    )
    # of the allocator and the threads: they change times a lot
    for name in sorted(os.environ):
        if name.startswith(_VARIABLES):
            environment[name] = os.environ[name]
    for name in SUPPORTED:
        found = find_version(name)
        if found is not None:
            environment[found[0]] = found[1]
    environment['torch'] = torch.__version__
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        environment.update(
            gpu=properties.name,
            gpu_memory=f'{properties.total_memory / 2**30:.0f} GiB',
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
        )
    return environment


def _find_commit():
    """Names the commit of this checkout, and whether files differ from it."""
    folder = Path(__file__).parent

    def git(*args):
        return subprocess.run(
            ['git', *args],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        commit = git('rev-parse', '--short', 'HEAD')
        package = git('rev-parse', '--show-toplevel') + '/mmba2m'
        changed = git('status', '--porcelain', '--', package)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return f'{commit} with changes' if changed else commit


def _find_cpu():
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _count_cores():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count()
