"""Distributed runs on the CPU, which MMEngine's Runner keeps for GPUs."""

import os
from datetime import timedelta

import torch
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS

from mmba2m.engine.runner import Runner


def build_runner(cfg):
    """Builds the runner of a config, one that takes CPUs where need be.

    Args:
        cfg (Config): With ``launcher``.

    Returns:
        Runner: Ours, or a :class:`CPURunner` in a distributed run where
        there is no accelerator.

    Raises:
        ValueError: If this machine has fewer GPUs than processes, or a
            launcher other than 'pytorch' is to start processes without GPUs.
    """
    if cfg.launcher == 'none':
        return Runner.from_cfg(cfg)
    device = get_device()
    if device == 'cpu':
        if cfg.launcher != 'pytorch':
            raise ValueError(
                f'--launcher {cfg.launcher} needs GPUs, and PyTorch sees '
                'none; on the CPU, take tools/dist_*.sh or tools/slurm_*.sh'
            )
        return CPURunner.from_cfg(cfg)
    if device == 'cuda' and cfg.launcher == 'pytorch':
        processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
        count = torch.cuda.device_count()
        if processes > count:
            raise ValueError(
                f'GPUS={processes} processes on a machine where PyTorch sees '
                f'{count} GPU(s)'
            )
    return Runner.from_cfg(cfg)


class CPURunner(Runner):
    """A Runner for processes on the CPU: gloo, no device ids, no SyncBN.

    What ``model_wrapper_cfg`` and ``env_cfg.dist_cfg.timeout`` say holds.
    SyncBN has no CPU kernel: as in MMEngine's runs without a launcher, the
    layers become batch norms, each process with its own statistics; a warning
    says so.
    """

    def setup_env(self, env_cfg):
        """Joins the process group before MMEngine asks for a GPU."""
        if not is_distributed():
            kwargs = {}
            seconds = env_cfg.get('dist_cfg', {}).get('timeout')
            if seconds is not None:
                kwargs['timeout'] = timedelta(seconds=seconds)
            torch.distributed.init_process_group('gloo', **kwargs)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg, model):
        """Wraps the model as the Runner does, less what needs a GPU."""
        model = self._revert_sync_batchnorm(model)
        if model_wrapper_cfg is None:
            model_wrapper_cfg = dict(
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get(
                    'find_unused_parameters', False
                ),
            )
        return MODEL_WRAPPERS.build(
            {'type': 'MMDistributedDataParallel', **model_wrapper_cfg},
            default_args=dict(module=model),
        )

    def _revert_sync_batchnorm(self, model):
        layers = dict(model.named_modules())
        model = revert_sync_batchnorm(model)
        which = [
            name
            for name, layer in model.named_modules()
            if layer is not layers[name]
        ]
        if self.cfg.get('sync_bn') is not None:
            which.append(f'sync_bn={self.cfg.sync_bn!r} of the config')
        if which:
            self.logger.warning(
                'SyncBN needs GPUs: on the CPU it is plain batch norm, each '
                f'process with the statistics of its own samples '
                f'({", ".join(which[:3])}{", …" if which[3:] else ""})'
            )
        return model
