"""Runners of distributed runs; a group of one process stands for many."""

import os
import socket
from datetime import timedelta

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import distributed, nn

from mmba2m.engine import runner as tested
from mmba2m.engine.runner import Runner
from mmba2m.models.attentions.ba2m import BA2M


@MODELS.register_module('DistributedTestNet')
class Net(BaseModel):
    def __init__(self, norm='SyncBN'):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        norms = dict(BN=nn.BatchNorm2d, SyncBN=nn.SyncBatchNorm)
        self.norm = norms[norm](8)
        self.ba2m = BA2M(8, reduction=4, norm_cfg=dict(type=norm))

    def forward(self, inputs, mode='tensor'):
        maps = self.ba2m(self.norm(self.conv(inputs)))
        return dict(loss=maps.square().mean()) if mode == 'loss' else maps


@DATASETS.register_module('DistributedTestSamples')
class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((3, 4, 4), index / 4))


@pytest.fixture
def config(tmp_path):
    return Config(
        dict(
            model=dict(type='DistributedTestNet'),
            work_dir=str(tmp_path),
            experiment_name=tmp_path.name,  # a logger of its own
            launcher='none',
            train_dataloader=dict(
                dataset=dict(type='DistributedTestSamples'),
                batch_size=4,
                sampler=dict(type='DefaultSampler'),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_scope='mmengine',
        )
    )


@pytest.fixture
def launched(config, monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    env = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, LOCAL_WORLD_SIZE=1)
    env.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    for name, value in env.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(tested, 'get_device', lambda: 'cpu')
    config.launcher = 'pytorch'
    yield config
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_without_launcher_mmengine_reverts_sync_bn(config):
    runner = Runner.from_cfg(config)
    before = runner.model.conv.weight.clone()
    runner.train()
    assert not any(
        isinstance(module, nn.SyncBatchNorm)
        for module in runner.model.modules()
    )
    assert not torch.equal(runner.model.conv.weight, before)


def test_cpu_run_takes_gloo_and_reverts_sync_bn(launched, tmp_path):
    runner = Runner.from_cfg(launched)
    assert distributed.get_backend() == 'gloo'
    model = runner.model
    assert model.device_ids is None
    # what MMEngine sets where the config says nothing
    assert not model.broadcast_buffers
    assert not model.find_unused_parameters
    runner.train()
    assert not any(
        isinstance(module, nn.SyncBatchNorm) for module in model.modules()
    )
    assert model.module.norm.num_batches_tracked == 2
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'WARNING - SyncBN needs GPUs' in log
    assert '(norm, ba2m.channel.2.norm, ' in log


@pytest.mark.parametrize('sync_bn', ['torch', 'mmcv', None])
def test_sync_bn_of_the_config_warns(launched, tmp_path, sync_bn):
    launched.model.norm = 'BN'
    launched.sync_bn = sync_bn
    runner = Runner.from_cfg(launched)
    assert type(runner.model.module.norm) is nn.BatchNorm2d
    log = next(tmp_path.glob('*/*.log')).read_text()
    expected = f"(sync_bn='{sync_bn}' of the config)"
    assert (expected in log) == (sync_bn is not None)
    assert ('SyncBN needs GPUs' in log) == (sync_bn is not None)


def test_settings_of_the_user_hold(launched):
    launched.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        find_unused_parameters=True,
        broadcast_buffers=True,
    )
    launched.env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=77))
    model = Runner.from_cfg(launched).model
    assert model.find_unused_parameters and model.broadcast_buffers
    assert model.device_ids is None
    group = distributed.distributed_c10d._get_default_group()
    backend = group._get_backend(torch.device('cpu'))
    assert backend.options._timeout == timedelta(seconds=77)
    launched.pop('model_wrapper_cfg')
    launched.find_unused_parameters = True
    assert Runner.from_cfg(launched).model.find_unused_parameters


def test_other_launchers_need_gpus(launched):
    launched.launcher = 'slurm'
    with pytest.raises(ValueError, match='--launcher slurm needs GPUs'):
        Runner.from_cfg(launched)


def test_more_processes_than_gpus_is_named(launched, monkeypatch):
    monkeypatch.setattr(tested, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setitem(os.environ, 'LOCAL_WORLD_SIZE', '8')
    with pytest.raises(ValueError, match=r'GPUS=8 .* sees 1 GPU'):
        Runner.from_cfg(launched)
