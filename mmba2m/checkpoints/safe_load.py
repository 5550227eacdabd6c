"""Unpickles what MMEngine's checkpoints hold, and nothing else."""

import codecs
import os
import pickle
import zipfile
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler

#: torch's own switch for files from a trusted source
TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def safe_load(path: str, map_location: Any) -> Any:
    """Loads a file as ``torch.load(weights_only=True)`` does.

    Args:
        path: A local file.
        map_location: As in ``torch.load``.

    Raises:
        pickle.UnpicklingError: With 'GLOBAL name' where it holds a function
            or class of another name. Damaged files raise other errors, too.
    """
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
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any('constants.pkl' in name for name in archive.namelist()):
                raise pickle.UnpicklingError('a TorchScript archive')
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
        'builtins.getattr': _get_method,
        'builtins.slice': slice,
        'collections.Counter': Counter,  # the milestones of a schedule
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    for owner in METHODS:
        names[f'{owner.__module__}.{owner.__name__}'] = owner
    # either stack's checkpoints: NumPy 2 has renamed its core
    array, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    for core in ('numpy.core', 'numpy._core'):
        names[f'{core}.multiarray._reconstruct'] = array
        names[f'{core}.multiarray.scalar'] = scalar
    for code in np.typecodes['All'].replace('O', ''):
        kind = type(np.dtype(code))
        names[f'{kind.__module__}.{kind.__name__}'] = kind
    return names


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
