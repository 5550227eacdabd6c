"""Checkpoints that load without running code, and are written whole."""

import os
import pickle
import re
import shutil
from contextlib import contextmanager
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_torchvision_models,
)

from .safe_load import TRUST, check_archive, safe_load

#: what a file is called while it is written
PART_SUFFIX = '.mmba2m-part'
#: what was read already, by the name it goes by
_read = {}


@contextmanager
def atomic_write(path: str | Path):
    """Opens a file that gets its name only when it is whole and on disk.

    It is written beside its destination as ``path`` + ``.mmba2m-part``, and
    renamed. Whatever happens before, a file that was there stays as it was.

    Args:
        path: The destination, in an existing folder.

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
        free = shutil.disk_usage(os.path.dirname(path)).free / 2**20
        raise OSError(
            error.errno,
            f'{error.strerror}: {os.path.basename(path)} was not saved, '
            f'{free:.0f} MiB are free there; older files are untouched',
            path,
        ) from error
    if os.name == 'posix':  # the new name, too, is to outlast a power failure
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def to_bytes(checkpoint: dict) -> bytes:
    """Serialises a checkpoint; the same content gives the same bytes."""
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def save_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Saves a checkpoint; it never exists half under its name.

    Raises:
        OSError: If it cannot be written, see :func:`atomic_write`.
    """
    with atomic_write(path) as stream:
        stream.write(to_bytes(checkpoint))


def check_new_file(path: str | Path) -> None:
    """Refuses a name that is taken, so that nothing is overwritten.

    Raises:
        FileExistsError: If there is such a file.
        FileNotFoundError: If there is no folder to write it to.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise FileExistsError(f'{path} exists already, choose another name')
    if not path.parent.is_dir():
        raise FileNotFoundError(f'{path.parent} is no folder to write to')


def write_new_file(content: bytes, path: str | Path) -> None:
    """Writes a file whole or not at all, and over no other.

    Raises:
        OSError: If the name is taken, or the file cannot be written.
    """
    check_new_file(path)
    with atomic_write(path) as stream:
        stream.write(content)


@contextmanager
def handed_on(read: dict[str, dict]):
    """Has :func:`load_checkpoint` give what was read instead of reading.

    Whoever looks at a checkpoint hands it on so to whoever loads it by its
    name: MMEngine's Runner, ``init_cfg``, the hosts' inferencers.

    Args:
        read: What :func:`load_checkpoint` gave, by its argument.
    """
    before = dict(_read)
    _read.update({str(path): content for path, content in read.items()})
    try:
        yield
    finally:
        _read.clear()
        _read.update(before)


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict:
    """Loads a checkpoint; a pickle that would run code is refused.

    Tensors, numbers, text and containers of them load, and what MMEngine
    keeps beside the weights (its log buffers, NumPy's arrays and numbers).

    Args:
        path: A file, or what MMEngine downloads: ``https://``,
            ``torchvision://``, ``open-mmlab://``.
        map_location: Where its tensors go, as in ``torch.load``.
            Defaults to 'cpu'.

    Returns:
        The checkpoint, or what was :func:`handed_on`.

    Raises:
        FileNotFoundError: If there is no such file.
        ConnectionError: If it cannot be downloaded.
        pickle.UnpicklingError: If it holds anything else. For a file from
            a trusted source, torch's own environment variable
            ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` loads it all the same.
        ValueError: If it is damaged, or no checkpoint.
    """
    if str(path) in _read:
        return _read[str(path)]
    if '://' in str(path):
        path = _download(path)
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} not found')
    with open(path, 'rb'):
        pass  # may it be read at all?
    if path.endswith('.safetensors'):
        raise ValueError(
            f'{path} is no checkpoint of torch. Make it one: '
            'torch.save(safetensors.torch.load_file(IN), OUT)'
        )
    try:
        check_archive(path)
        checkpoint = safe_load(path, map_location)
    except Exception as error:  # torch raises any, whatever is damaged
        refused = re.search(r'GLOBAL (\S+)', str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            name = refused[1].removeprefix('builtins.')
            raise pickle.UnpicklingError(
                f'{path} was not loaded: it holds {name}, and pickled '
                'objects can run code. If you trust where it comes from, set '
                f'the environment variable {TRUST}=1'
            ) from None
        # torch advises to load it without a look at what it holds
        reason = str(error).rpartition('WeightsUnpickler error: ')[2]
        reason = re.split('[.] In PyTorch|Re-running', reason)[0].strip()
        reason = (reason or type(error).__name__).splitlines()[0]
        raise ValueError(
            f'{path} is damaged, or no checkpoint: {reason}'
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'{path} is no checkpoint: it holds a {type(checkpoint).__name__}'
        )
    return checkpoint


def use_safe_loading() -> None:
    """Has MMEngine load every checkpoint of this process so.

    It replaces MMEngine's loaders of local files and downloads, by MMEngine's
    own ``CheckpointLoader.register_scheme``: for programs to call. Storage
    that :func:`load_checkpoint` does not know (``s3://``) stays MMEngine's.
    """
    schemes = ['', *(f'{scheme}://' for scheme in DOWNLOADS)]
    CheckpointLoader.register_scheme(schemes, load_from_mmba2m, force=True)


def load_from_mmba2m(path: str, map_location: Any = None) -> dict:
    """:func:`load_checkpoint`, as MMEngine calls and logs it."""
    return load_checkpoint(path, map_location)


def get_weights(checkpoint: dict) -> dict:
    """Finds the weights in a checkpoint.

    Args:
        checkpoint: With the weights as its 'state_dict', or the weights
            themselves.

    Returns:
        dict[str, Tensor]: The weights, without the ``module.`` of a wrapper.

    Raises:
        ValueError: If there are none.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, dict):
        raise ValueError(f'no weights, but a {type(weights).__name__}')
    others = [
        key
        for key, value in weights.items()
        if not (isinstance(key, str) and _is_whole(value))
    ]
    if others or not weights:
        names = ', '.join(map(str, others[:3])) or 'nothing'
        raise ValueError(f'no weights, but {names}')
    found = {key.removeprefix('module.'): v for key, v in weights.items()}
    if len(found) < len(weights):
        raise ValueError('weights with and without module. before their name')
    return found


def _is_whole(value):
    """Whether it is a tensor whose numbers are there, each once."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type != 'meta'
        and value.numel() * value.element_size()
        <= value.untyped_storage().nbytes()
    )


def _download(path):
    """Downloads to where torch and MMEngine keep it, once."""
    scheme, name = path.split('://', 1)
    if scheme not in DOWNLOADS:
        raise ValueError(f'{path}: download it first, and name the file')
    url = DOWNLOADS[scheme](name)
    if url is None:
        raise ValueError(f'{path}: {scheme}:// has no {name!r}')
    if '://' not in url:  # of the user's own table of names
        return url
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    file = folder / os.path.basename(urlparse(url).path)
    if not int(os.environ.get('LOCAL_RANK', 0)) and not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file))
        except (OSError, HTTPException) as error:
            raise ConnectionError(
                f'{url} cannot be downloaded ({error}). Without a network, '
                f'put it in place by hand: {file}'
            ) from None
    barrier()
    return file


def _find_torchvision(name):
    return get_torchvision_models().get(name)


def _find_openmmlab(name):
    name = get_deprecated_model_names().get(name, name)
    return get_external_models().get(name)


DOWNLOADS = {
    'http': 'http://{}'.format,
    'https': 'https://{}'.format,
    'torchvision': _find_torchvision,
    'modelzoo': _find_torchvision,
    'open-mmlab': _find_openmmlab,
    'openmmlab': _find_openmmlab,
}
