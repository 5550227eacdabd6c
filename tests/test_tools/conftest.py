"""Modules of tools, as their scripts import them."""

import functools
import sys
from importlib import import_module

import pytest
from tool_runs import ROOT


@pytest.fixture(scope='session')
def load_tools():
    """Loads the modules of a folder below tools/, by name."""

    @functools.cache
    def load(folder):
        folder = ROOT / 'tools' / folder
        names = [path.stem for path in folder.glob('*.py')]
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            try:
                return {name: import_module(name) for name in names}
            finally:  # other folders have modules of these names
                for name in names:
                    sys.modules.pop(name, None)

    return load
