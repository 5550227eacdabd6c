import shutil
from pathlib import Path

import pytest
from tool_runs import run_tool

from mmba2m import HOSTS

RUNS = dict(mmdet='detector_run', mmpretrain='classifier_run')


@pytest.fixture
def convert():
    """Runs a tool as on the command line; what it says, as text."""
    return lambda tool, *args, **kwargs: run_tool(
        f'model_converters/{tool}.py', *args, **kwargs
    )


@pytest.fixture(
    params=[
        # trained for the slow tests only
        pytest.param(host, marks=[pytest.mark.slow] * (host == 'mmdet'))
        for host in HOSTS
    ]
)
def host(request):
    return request.param


@pytest.fixture
def checkpoint(request, host, tmp_path):
    """An annealed one of a training, where files may be added."""
    source = request.getfixturevalue(RUNS[host]) / 'epoch_3.pth'
    return Path(shutil.copy(source, tmp_path / 'annealed.pth'))
