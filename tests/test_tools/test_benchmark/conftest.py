import sys
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / 'tools/benchmark'


@pytest.fixture(scope='module')
def tool():
    """The script, with ``measuring`` and ``report`` as it imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        module = import_module('benchmark_backbone')
        module.measuring, module.report = map(
            import_module, ('measuring', 'report')
        )
    yield module
    for name in ('benchmark_backbone', 'measuring', 'report'):
        del sys.modules[name]
