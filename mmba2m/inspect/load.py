"""The one way from files to a trained network and its data."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from mmba2m import HOSTS
from mmba2m.checkpoints.checks import check_checkpoint
from mmba2m.checkpoints.embedded_config import read_embedded_config
from mmba2m.checkpoints.files import (
    get_weights,
    load_checkpoint,
    use_safe_loading,
)
from mmba2m.checkpoints.safe_load import no_pickles
from mmba2m.config_files import complete_scope, read_config
from mmba2m.data_checks import check_data, check_trained, complete_palette
from mmba2m.engine.runner import Runner

CONFIG_SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def read_trained(
    model: str, checkpoint: str | None = None
) -> tuple[Config, dict]:
    """Reads a config and a checkpoint, each once.

    Args:
        model: A config file and, with it, ``checkpoint``; or a checkpoint
            that holds its config, as those of MMEngine's Runner do.
        checkpoint: A checkpoint file. Defaults to None.

    Returns:
        The config and what the checkpoint file holds.

    Raises:
        ValueError: If one of the two is missing.
        FileNotFoundError: If there is no such file.
        pickle.UnpicklingError: If the checkpoint would run code.
    """
    if checkpoint is not None:
        return read_config(model), load_checkpoint(checkpoint)
    if Path(model).suffix in CONFIG_SUFFIXES:
        raise ValueError(f'{model} is a config: name its checkpoint as well')
    content = load_checkpoint(model)
    if 'cfg' not in (content.get('meta') or {}):
        raise ValueError(
            f'{model} has no config in it: name its config before it'
        )
    try:
        return complete_scope(read_embedded_config(content)), content
    except ValueError as error:
        raise ValueError(f'{model}: {error}') from error


def load_network(
    cfg: Config,
    checkpoint: dict,
    device: str | None = None,
    path: str = 'it',
) -> nn.Module:
    """Builds the network of a config with the weights of a checkpoint.

    Args:
        cfg: The config of a detector or classifier; it stays as it is.
        checkpoint: What was read of a checkpoint file.
        device: Where it is to be. Defaults to a GPU if there is one.
        path: Where the checkpoint is from, for messages. Defaults to 'it'.

    Returns:
        The network in ``eval()``, SyncBN as BatchNorm. Its ``dataset_meta``
        has the ``classes`` (and ``palette``) of the checkpoint, else those of
        the config, if any.

    Raises:
        ValueError: If it is a checkpoint of another network or of classes in
            another order, or the config is for no host that is installed, or
            there is no such device.
    """
    device = device or get_device()
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'no device {device!r} here: {reason}') from error
    host = find_host(cfg)
    init_default_scope(host)
    model_cfg = deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:  # as the Runner does
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    use_safe_loading()  # networks may load others while they are built
    with no_pickles():
        network = MODELS.build(model_cfg)
    check_checkpoint(network, checkpoint, path, strict=True)
    network.load_state_dict(get_weights(checkpoint))
    meta = _read_dataset_meta(cfg, host)
    data = SimpleNamespace(metainfo=meta)
    check_trained(checkpoint.get('meta'), data, path, same_task=False)
    saved = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    meta |= {key.lower(): value for key, value in saved.items()}
    network.dataset_meta = complete_palette(meta)
    network = revert_sync_batchnorm(network)
    return network.to(device).eval()


def find_host(cfg: Config) -> str:
    """Finds the library that a config is for.

    Args:
        cfg: The config of a detector or classifier.

    Returns:
        'mmdet' or 'mmpretrain'.

    Raises:
        ValueError: If it is for neither, or for one that is not installed.
    """
    host = cfg.get('default_scope') or str(cfg.model.type).split('.')[0]
    if host not in HOSTS:
        raise ValueError(
            f'the config is for {host!r} (its default_scope), and of '
            f'mmdet and mmpretrain there is {" and ".join(HOSTS)} here'
        )
    return host


def _read_dataset_meta(cfg: Config, host: str) -> dict:
    """What a config has on its test set, itself or by the set's class."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    cls = dataset.get('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(host) as registry:
            cls = registry.get(cls)
    return {
        **(getattr(cls, 'METAINFO', None) or {}),
        **(dataset.get('metainfo') or {}),
    }


def build_dataset(cfg: Config, split: str = 'test') -> BaseDataset:
    """Builds a data set of a config.

    Args:
        cfg: The config of a detector or classifier.
        split: 'train', 'val' or 'test'. Defaults to 'test'.

    Returns:
        The data set, with the pipeline of that data loader.

    Raises:
        FileNotFoundError: If data are missing.
        ValueError: If the config has no such data loader, or the data do not
            fit it.
    """
    name = f'{split}_dataloader'
    if cfg.get(name) is None:
        raise ValueError(f'{cfg.filename} has no {name}')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    check_data(cfg, (name,))
    loader = deepcopy(cfg[name])
    loader.update(num_workers=0, persistent_workers=False)
    return Runner.build_dataloader(loader).dataset
