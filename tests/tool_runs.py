"""Runs tools as a user does: in this process, or in one of their own.

A new process waits seconds for the hosts' imports, so most tests take
:func:`run_tool`. What is about processes (signals, ranks, launchers) takes
:func:`run_process`, a fork of one that has imported the hosts.
"""

import os
import runpy
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.visualization import Visualizer
from torch import distributed

ROOT = Path(__file__).parents[1]


@contextmanager
def isolate_mmengine():
    """Lets a Runner find nothing of others, and leaves nothing behind."""
    kept = [
        (store, dict(store))
        for store in (
            *(
                cls._instance_dict
                for cls in (DefaultScope, MessageHub, MMLogger, Visualizer)
            ),
            CheckpointLoader._schemes,
        )
    ]
    # the hosts' visualizers all have one name, and write where the first did
    managers = (MessageHub, MMLogger, Visualizer, *Visualizer.__subclasses__())
    for manager in managers:
        manager._instance_dict.clear()
    try:
        yield
    finally:
        for manager in managers:
            manager._instance_dict.clear()
        for store, content in kept:
            store.clear()
            store.update(content)


def run_tool(tool, *args, env=None, fails=False, cwd=ROOT):
    """Calls ``python tools/TOOL ARGS`` in the root of the repository.

    Args:
        tool (str): Path below ``tools/``.
        args: Converted to strings.
        env (dict | None): Additional environment variables.
        fails (bool): Whether the tool is to fail. Defaults to False.
        cwd (Path): Another folder with ``tools/``. Defaults to the root.

    Returns:
        str: What it wrote to both streams, with the message of its end.
    """
    argv = [f'tools/{tool}', *map(str, args)]
    output = StringIO()
    failed = False
    environment = dict(os.environ)
    modules = set(sys.modules)
    with (
        pytest.MonkeyPatch.context() as patch,
        isolate_mmengine(),
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        patch.chdir(cwd)
        patch.setattr(sys, 'argv', argv)
        patch.syspath_prepend(str((ROOT / argv[0]).parent))
        os.environ.update(env or {})
        try:
            runpy.run_path(argv[0], run_name='__main__')
        except SystemExit as end:
            failed = bool(end.code)
            if isinstance(end.code, str):
                output.write(end.code)
        except Exception:
            failed = True
            output.write(traceback.format_exc())
        finally:
            os.environ.clear()
            os.environ.update(environment)
            for name in set(sys.modules) - modules:
                path = getattr(sys.modules[name], '__file__', None) or ''
                if path.startswith(str(ROOT / 'tools')):
                    del sys.modules[name]  # others have siblings of that name
    text = output.getvalue()
    assert failed == fails, text[-3000:]
    return text


def run_process(tool, *args, env=None, fails=False, prepare=None):
    """As :func:`run_tool`, in a process of its own.

    ``prepare`` is called first in the new process. What depends on the
    environment at import time needs `subprocess`.
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


def leave_group():
    """Ends a process group, once its threads have let go of their tensors.

    torch 2.1 waits for them with the GIL, which they need for that: rarely,
    but then for ever. Processes that end leave a group by ending.
    """
    time.sleep(0.1)
    distributed.destroy_process_group()
