"""Unpickles what MMEngine's checkpoints hold, and nothing else."""

import codecs
import os
import pickle
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler

#: torch's own switch for files from a trusted source
TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


#: whether pickles are refused
_refused = ContextVar('refused', default=False)


@contextmanager
def no_pickles() -> Iterator[None]:
    """Refuses what names code in any pickle, whoever loads it.

    A config may name files that a host unpickles while it builds, as the
    answers of MMPretrain's ``VQAGenerationHead``.

    Raises:
        pickle.UnpicklingError: While it is open, with what is named.
    """
    _audit()
    token = _refused.set(not _is_trusted())
    try:
        yield
    finally:
        _refused.reset(token)


@cache  # there is no way to remove it
def _audit():
    def refuse(event, args):
        if event == 'pickle.find_class' and _refused.get():
            raise pickle.UnpicklingError(
                f'a file that the config names holds {".".join(args)}, and '
                'pickled objects can run code. If you trust it, set the '
                f'environment variable {TRUST}=1'
            )

    sys.addaudithook(refuse)


def _is_trusted():
    return os.environ.get(TRUST, '').lower() in ('1', 'y', 'yes', 'true')


def check_archive(path: str) -> None:
    """Compares the records of a file with the checksums that torch wrote.

    Raises:
        ValueError: If a bit of it has flipped, or it unpacks to more than it
            has.
    """
    if not zipfile.is_zipfile(path):  # of torch 1.5 and before
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > os.path.getsize(path):
            raise ValueError(
                f'it unpacks to {size} bytes, as TorchScript or a zip bomb may'
            )
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f'the checksum of its record {damaged} is wrong')


def safe_load(path: str, map_location: Any) -> Any:
    """Loads a file as ``torch.load(weights_only=True)`` does.

    Args:
        path: A local file.
        map_location: As in ``torch.load``.

    Raises:
        pickle.UnpicklingError: With 'GLOBAL name' where it holds a function
            or class of another name. Damaged files raise other errors, too.
    """
    if _is_trusted():
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
    if zipfile.is_zipfile(path):
        # asked of who will read it: Python may find another directory in it
        records = torch._C.PyTorchFileReader(path).get_all_records()
        if 'constants.pkl' in records:
            raise pickle.UnpicklingError('a TorchScript archive')
    names |= torch._weights_only_unpickler._get_allowed_globals()
    names |= {'_codecs.encode': codecs.encode, 'builtins.set': set}

    class Unpickler(pickle._Unpickler):
        dispatch: ClassVar[Any] = dict(pickle._Unpickler.dispatch)

        def load_build(self):
            # else the attributes of classes and functions could be set
            if callable(self.stack[-2]):
                raise pickle.UnpicklingError('GLOBAL attributes.of.a.class')
            super().load_build()

        dispatch[pickle.BUILD[0]] = load_build

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
        'builtins.getattr': _get_method,
        'builtins.slice': slice,
        'collections.Counter': Counter,  # the milestones of a schedule
        'numpy.ndarray': str,  # an argument only
        'numpy.dtype': _get_dtype,
        # without a dot no file can name them, and torch sets their state
        'ndarray': np.ndarray,
    }
    for owner in METHODS:
        names[f'{owner.__module__}.{owner.__name__}'] = owner
    scalar = np.float64(0).__reduce__()[0]
    # either stack's checkpoints: NumPy 2 has renamed its core
    for core in ('numpy.core', 'numpy._core'):
        names[f'{core}.multiarray._reconstruct'] = _get_array
        names[f'{core}.multiarray.scalar'] = scalar
    return names | {str(kind): type(kind) for kind in NUMERIC.values()}


#: NumPy's numbers, by what a pickle calls them
NUMERIC = {
    code: np.dtype(code)
    for kind, sizes in dict(b='1', i='1248', u='1248', f='248').items()
    for code in (kind + size for size in sizes)
}


def _get_dtype(code, *_):
    """NumPy's own, whose state a pickle cannot set, unlike that of a copy."""
    if code not in NUMERIC:
        raise pickle.UnpicklingError(f'GLOBAL numpy.dtype({code!r})')
    return NUMERIC[code]


def _get_array(*_):
    """An array to be filled; ``ndarray`` itself takes any memory."""
    return np.zeros(0, np.int8)


#: whose methods are pickled by name: log buffers, a schedule
METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _get_method(owner, name):
    """Stands in for ``getattr``, which may reach anything."""
    if name not in METHODS.get(owner, ()):
        raise pickle.UnpicklingError('GLOBAL builtins.getattr')
    return getattr(owner, name)
