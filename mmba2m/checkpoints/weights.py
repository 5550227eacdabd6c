"""What the model converters share: what they read, and where they write."""

import argparse
import os
from io import BytesIO
from pathlib import Path

import torch

from .files import atomic_write

# where others keep the weights in a checkpoint
_CONTAINERS = ('state_dict', 'model')


def check_new_file(path):
    """Refuses a name that is taken, so that nothing is overwritten.

    Args:
        path (str | Path): A file that is to be written.

    Raises:
        FileExistsError: If there is such a file.
        FileNotFoundError: If there is no folder to write it to.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise FileExistsError(f'{path} exists already, choose another name')
    if not path.parent.is_dir():
        raise FileNotFoundError(f'{path.parent} is no folder to write to')


def checkpoint_name(name):
    """Checks the name of a checkpoint on a command line; a type of argparse.

    Args:
        name (str): What the user gave.

    Returns:
        Path: The file.

    Raises:
        argparse.ArgumentTypeError: If it does not end in .pth.
    """
    if not name.endswith('.pth'):
        raise argparse.ArgumentTypeError(f'{name} must end in .pth')
    return Path(name)


def get_weights(checkpoint):
    """Finds the weights in a checkpoint, ours or another library's.

    Args:
        checkpoint (dict): With the weights as its 'state_dict' or 'model',
            or the weights themselves.

    Returns:
        dict[str, Tensor]: The weights, without the ``module.`` of a wrapper.

    Raises:
        ValueError: If there are none.
    """
    weights = checkpoint
    for key in _CONTAINERS:
        if isinstance(checkpoint.get(key), dict):
            weights = checkpoint[key]
            break
    no_weights = [
        key
        for key, value in weights.items()
        if not isinstance(value, torch.Tensor)
    ]
    if no_weights or not weights:
        found = ', '.join(map(str, no_weights[:3])) or 'nothing'
        raise ValueError(f'no weights, but {found}')
    if all(key.startswith('module.') for key in weights):
        weights = {key[len('module.') :]: v for key, v in weights.items()}
    return weights


def to_bytes(checkpoint):
    """Serialises a checkpoint; the same content gives the same bytes.

    Args:
        checkpoint (dict): What ``torch.save`` takes.

    Returns:
        bytes: The content of the file.
    """
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def write_new_file(content, path):
    """Writes a file whole or not at all, and over no other.

    Args:
        content (bytes): Its content.
        path (str | Path): Its name.

    Raises:
        OSError: If the name is taken, or the file cannot be written.
    """
    check_new_file(path)
    with atomic_write(path) as stream:
        stream.write(content)
