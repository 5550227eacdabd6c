import shutil
from pathlib import Path

import pytest
from tool_runs import run_tool

from mmba2m import HOSTS


@pytest.fixture
def convert():
    """Runs a tool as on the command line; what it says, as text."""

    def convert(tool, *args, fails=False):
        return run_tool(f'model_converters/{tool}.py', *args, fails=fails)

    return convert


@pytest.fixture(params=HOSTS)
def trained(request):
    """A host, and the annealed checkpoint of a training."""
    task = dict(mmdet='detector', mmpretrain='classifier')[request.param]
    run = request.getfixturevalue(f'{task}_run')
    return request.param, run / 'epoch_3.pth'


@pytest.fixture
def checkpoint(trained, tmp_path):
    """The checkpoint of :func:`trained`, where files may be added."""
    return Path(shutil.copy(trained[1], tmp_path / 'annealed.pth'))
