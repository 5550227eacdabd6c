"""Trained networks and data sets of a config, without a runner."""

from copy import deepcopy

from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope

from mmba2m.engine.runner import Runner
from mmba2m.checkpoints.checks import check_checkpoint
from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.data_checks import check_data


def load_network(cfg, checkpoint):
    """Builds the network of a config with the weights of a checkpoint.

    Args:
        cfg (Config): The config of a detector or classifier; it stays as it
            is.
        checkpoint (str): Checkpoint file.

    Returns:
        nn.Module: In ``eval()``, on the GPU if there is one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a checkpoint of another network.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:  # as the Runner does
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model)
    check_checkpoint(model, checkpoint, strict=True)
    state = load_checkpoint(checkpoint)
    state = state.get('state_dict', state)
    model.load_state_dict(
        {key.removeprefix('module.'): value for key, value in state.items()}
    )
    return model.to(get_device()).eval()


def build_dataset(cfg, split='test'):
    """Builds a data set of a config.

    Args:
        cfg (Config): The config of a detector or classifier.
        split (str): 'train', 'val' or 'test'. Defaults to 'test'.

    Returns:
        Dataset: With the pipeline of that data loader.

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
