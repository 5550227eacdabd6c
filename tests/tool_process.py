"""Runs tools in processes of their own, without waiting for imports.

Each is a fork of the process that conftest.py has import the hosts. What
depends on the environment at import time needs `subprocess`.
"""

import os
import runpy
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_tool(tool, *args, env=None, fails=False, prepare=None):
    """Calls ``python tools/TOOL ARGS`` in the root of the repository.

    Args:
        tool (str): Path below ``tools/``.
        args: Converted to strings.
        env (dict | None): Additional environment variables.
        fails (bool): Whether the tool is to fail. Defaults to False.
        prepare (Callable | None): Called first in the new process.

    Returns:
        str: What it wrote to both streams.
    """
    argv = [f'tools/{tool}', *map(str, args)]
    env = {**os.environ, **(env or {})}
    with tempfile.NamedTemporaryFile('r') as output:
        process = get_context('forkserver').Process(
            target=_call, args=(argv, env, output.name, prepare)
        )
        process.start()
        process.join()
        text = output.read()
    assert (process.exitcode != 0) == fails, text[-3000:]
    return text


def _call(argv, env, output, prepare):
    stream = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(env)
    if prepare is not None:
        prepare()
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent.absolute()))
    runpy.run_path(argv[0], run_name='__main__')
