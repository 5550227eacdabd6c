"""Distributed runs on the CPU, which MMEngine's Runner keeps for GPUs."""

import os
from datetime import timedelta

import torch
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from torch import nn


def join_group(launcher: str, device: str, env_cfg: dict) -> None:
    """Joins the process group on the CPU, before MMEngine asks for a GPU.

    Where there are GPUs it only counts them.

    Args:
        launcher: One of MMEngine's.
        device: What MMEngine computes on, e.g. 'cpu'.
        env_cfg: That of the config; ``dist_cfg.timeout`` holds, in seconds.

    Raises:
        ValueError: If this machine has fewer GPUs than processes, or a
            launcher other than 'pytorch' is to start processes without GPUs.
    """
    if device == 'cuda' and launcher == 'pytorch':
        processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
        count = torch.cuda.device_count()
        if processes > count:
            raise ValueError(
                f'GPUS={processes} processes on a machine where PyTorch sees '
                f'{count} GPU(s)'
            )
    if device != 'cpu' or is_distributed():
        return
    if launcher != 'pytorch':
        raise ValueError(
            f'--launcher {launcher} needs GPUs, and PyTorch sees none; on '
            'the CPU, take tools/dist_*.sh or tools/slurm_*.sh'
        )
    seconds = env_cfg.get('dist_cfg', {}).get('timeout') or 1800  # as PyTorch
    torch.distributed.init_process_group(
        'gloo', timeout=timedelta(seconds=seconds)
    )


def wrap_on_cpu(cfg: dict, wrapper_cfg: dict | None, model: nn.Module):
    """Wraps a model as the Runner does, less what needs a GPU.

    SyncBN has no CPU kernel: as in MMEngine's runs without a launcher, the
    layers become batch norms, each process with its own statistics; a warning
    says so.

    Args:
        cfg: The config; its ``sync_bn`` and ``find_unused_parameters`` hold.
        wrapper_cfg: Its ``model_wrapper_cfg``, by default of
            MMDistributedDataParallel.
        model: The model.
    """
    layers = dict(model.named_modules())
    model = revert_sync_batchnorm(model)
    after = model.named_modules()
    which = [name for name, layer in after if layer is not layers[name]]
    if cfg.get('sync_bn') is not None:
        which.append(f'sync_bn={cfg["sync_bn"]!r} of the config')
    if which:
        MMLogger.get_current_instance().warning(
            'SyncBN needs GPUs: on the CPU it is plain batch norm, each '
            f'process with the statistics of its own samples '
            f'({", ".join(which[:3])}{", …" if which[3:] else ""})'
        )
    if wrapper_cfg is None:
        wrapper_cfg = dict(
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
    return MODEL_WRAPPERS.build(
        {'type': 'MMDistributedDataParallel', **wrapper_cfg},
        default_args=dict(module=model),
    )
