"""Runners of distributed runs; a group of one process stands for many."""

import os
import socket
from datetime import timedelta

import pytest
import torch
from mmengine.registry import MODELS
from tool_runs import leave_group
from torch import distributed, nn
from toy_training import Toy

from mmba2m.engine import runner as tested
from mmba2m.models.attentions.ba2m import BA2M


@MODELS.register_module()
class DistributedTestNet(Toy):
    def __init__(self, norm):
        norms = dict(BN=nn.BatchNorm2d, SyncBN=nn.SyncBatchNorm)
        ba2m = BA2M(8, reduction=4, norm_cfg=dict(type=norm))
        super().__init__(nn.Conv2d(3, 8, 1), norms[norm](8), ba2m)


@pytest.fixture
def launch(run, monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    env = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, LOCAL_WORLD_SIZE=1)
    env.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    for name, value in env.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(tested, 'get_device', lambda: 'cpu')

    def launch(launcher='pytorch', norm='SyncBN', **settings):
        model = dict(type='DistributedTestNet', norm=norm)
        return run((3, 4, 4), model=model, launcher=launcher, **settings)

    yield launch
    if distributed.is_initialized():
        leave_group()


def test_cpu_run_takes_gloo_and_reverts_sync_bn(launch, tmp_path):
    runner = launch()
    assert distributed.get_backend() == 'gloo'
    model = runner.model
    assert model.device_ids is None
    # what MMEngine sets where the config says nothing
    assert not model.broadcast_buffers
    assert not model.find_unused_parameters
    before = model.module.layers[0].weight.clone()
    runner.train()
    assert not torch.equal(model.module.layers[0].weight, before)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    assert model.module.layers[1].num_batches_tracked == 4
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'WARNING - SyncBN needs GPUs' in log
    assert '(layers.1, layers.2.channel.2.norm, ' in log


@pytest.mark.parametrize('sync_bn', ['torch', 'mmcv', None])
def test_sync_bn_of_the_config_warns(launch, tmp_path, sync_bn):
    model = launch(norm='BN', sync_bn=sync_bn).model
    assert type(model.module.layers[1]) is nn.BatchNorm2d
    log = next(tmp_path.glob('*/*.log')).read_text()
    expected = f"(sync_bn='{sync_bn}' of the config)"
    assert (expected in log) == (sync_bn is not None)
    assert ('SyncBN needs GPUs' in log) == (sync_bn is not None)


def test_settings_of_the_user_hold(launch):
    wrapper = dict(type='MMDistributedDataParallel')
    wrapper.update(find_unused_parameters=True, broadcast_buffers=True)
    env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=77))
    model = launch(model_wrapper_cfg=wrapper, env_cfg=env_cfg).model
    assert model.find_unused_parameters and model.broadcast_buffers
    assert model.device_ids is None
    group = distributed.distributed_c10d._get_default_group()
    backend = group._get_backend(torch.device('cpu'))
    assert backend.options._timeout == timedelta(seconds=77)
    assert launch(find_unused_parameters=True).model.find_unused_parameters


def test_too_few_gpus_are_named(launch, monkeypatch):
    with pytest.raises(ValueError, match='--launcher slurm needs GPUs'):
        launch('slurm')
    monkeypatch.setattr(tested, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setitem(os.environ, 'LOCAL_WORLD_SIZE', '8')
    with pytest.raises(ValueError, match=r'GPUS=8 .* sees 1 GPU'):
        launch()
