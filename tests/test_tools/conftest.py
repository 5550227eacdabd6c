"""Modules of tools, as their scripts import them, and what tools take."""

import functools
import sys
from importlib import import_module

import mmcv
import pytest
from random_checkpoints import IMAGES, draw_image, load_config, save_random
from tool_runs import ROOT

from mmba2m import HOSTS


@pytest.fixture(scope='session')
def load_tools():
    """Loads the modules of a folder below tools/, by name."""

    @functools.cache
    def load(folder):
        folder = ROOT / 'tools' / folder
        names = [path.stem for path in folder.glob('*.py')]
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            # another folder, and whoever ran a tool, may have these names
            for name in names:
                sys.modules.pop(name, None)
            modules = {name: import_module(name) for name in names}
            for name in names:
                del sys.modules[name]
            return modules

    return load


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    return {
        host: save_random(load_config(host), folder / f'{host}.pth')
        for host in HOSTS
    }


@pytest.fixture
def images(tmp_path):
    """Five images, of two sizes and in two folders."""
    folder = tmp_path / 'images'
    for i, name in enumerate(IMAGES):
        size = (64, 96) if i != 2 else (96, 64)
        mmcv.imwrite(draw_image(i, *size), str(folder / name))
    return folder
