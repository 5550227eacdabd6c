"""Checkpoints that load without running code, and files written whole."""

import codecs
import os
import pickle
import re
import shutil
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

#: what a file is called while it is written
PART_SUFFIX = '.saving'

TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


@contextmanager
def atomic_write(path):
    """Opens a file that gets its name only when it is whole and on disk.

    It is written beside its destination as ``path`` + ``.saving``, flushed,
    and renamed. Whatever happens before, a file of that name stays as it was.

    Args:
        path (str | Path): The destination, in an existing folder.

    Yields:
        BinaryIO: The file to write to.

    Raises:
        OSError: If it cannot be written, as on a full disk. What was written
            is removed.
    """
    path = os.path.realpath(path)  # a link stays one
    part = path + PART_SUFFIX
    try:
        with open(part, 'wb') as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException as error:
        Path(part).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        folder = os.path.dirname(path)
        free = shutil.disk_usage(folder).free / 2**20
        raise OSError(
            error.errno,
            f'{error.strerror}: {os.path.basename(path)} was not saved, '
            f'{free:.0f} MiB are free there; older files are untouched',
            path,
        ) from error
    _sync_folder(os.path.dirname(path))


def _sync_folder(folder):
    """Makes a new name last through a power failure."""
    if os.name != 'posix':
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(checkpoint, path):
    """Saves a checkpoint; it never exists half under its name.

    Args:
        checkpoint (dict): What ``torch.save`` takes.
        path (str | Path): The file, in an existing folder.

    Raises:
        OSError: If it cannot be written, see :func:`atomic_write`.
    """
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    with atomic_write(path) as stream:
        stream.write(buffer.getbuffer())


def load_checkpoint(path, map_location='cpu'):
    """Loads a checkpoint; a pickle that would run code is refused.

    Tensors, numbers, text and containers of them load, and what MMEngine
    keeps beside the weights (its log buffers, NumPy's arrays and numbers).

    Args:
        path (str | Path): A local file.
        map_location (Any): Where its tensors go, as in ``torch.load``.
            Defaults to 'cpu'.

    Returns:
        dict: The checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        pickle.UnpicklingError: If it holds anything else. For a file from
            a trusted source, torch's own environment variable
            ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` loads it all the same.
        ValueError: If it is damaged, or no checkpoint.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} not found')
    try:
        checkpoint = _load(path, map_location)
    except OSError:
        raise
    except Exception as error:
        refused = re.search(r'GLOBAL ([\w.]+)', str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise pickle.UnpicklingError(
                f'{path} was not loaded: it holds {refused[1]}, and pickled '
                'objects can run code. If you trust where it comes from, set '
                f'the environment variable {TRUST}=1'
            ) from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f'{path} is damaged, or no checkpoint: {reason}'
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}'
        )
    return checkpoint


def _load(path, map_location):
    if os.environ.get(TRUST, '').lower() in ('1', 'y', 'yes', 'true'):
        return torch.load(path, map_location=map_location, weights_only=False)
    names = _safe_globals()
    if hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):
        with torch.serialization.safe_globals(
            [(value, name) for name, value in names.items()]
        ):
            return torch.load(
                path, map_location=map_location, weights_only=True
            )

    # before torch 2.6, weights_only cannot be told of other names
    names |= torch._weights_only_unpickler._get_allowed_globals()
    names |= {'_codecs.encode': codecs.encode, 'builtins.set': set}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            # pickles call it as Python 2 did
            module = module.replace('__builtin__', 'builtins')
            try:
                return names[f'{module}.{name}']
            except KeyError:
                raise pickle.UnpicklingError(
                    f'GLOBAL {module}.{name}'
                ) from None

    module = SimpleNamespace(
        __name__='pickle',
        Unpickler=Unpickler,
        load=lambda stream, **kwargs: Unpickler(stream, **kwargs).load(),
    )
    return torch.load(
        path,
        map_location=map_location,
        weights_only=False,
        pickle_module=module,
    )


def _safe_globals():
    """The names in MMEngine's checkpoints, besides those of weights."""
    names = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': _statistics_method,
        'builtins.slice': slice,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    # either stack's checkpoints: NumPy 2 has renamed its core
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    for core in ('numpy.core', 'numpy._core'):
        names[f'{core}.multiarray._reconstruct'] = array
        names[f'{core}.multiarray.scalar'] = scalar
    for code in '?' + np.typecodes['AllInteger'] + np.typecodes['AllFloat']:
        kind = type(np.dtype(code))
        names[f'{kind.__module__}.{kind.__name__}'] = kind
    return names


def _statistics_method(owner, name):
    """Stands in for ``getattr``, by which log buffers name their methods."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name)
