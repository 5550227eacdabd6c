"""Runs of seconds: of any toy, and of one in which everything draws."""

import gc
import itertools
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS
from mmengine.runner import Runner
from torch import distributed, multiprocessing, nn
from torch.utils.data import Dataset

from mmba2m.models.attentions.ba2m import BA2M

# batches of an epoch: 11 samples by two
EPOCH = 6
COUNT = itertools.count()
BY_ITER = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)
)
ITER_BASED = dict(
    train_cfg=dict(by_epoch=False, max_iters=3 * EPOCH, val_interval=4),
    default_hooks=BY_ITER,
)
SGD = dict(optimizer=dict(type='SGD', lr=0.1))


class Toy(BaseModel):
    """Any layers; the loss is the mean square of what comes out."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x, mode='tensor'):
        x = self.layers(torch.stack(x))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x]


@METRICS.register_module('EngineTestScores')
class Scores(BaseMetric):
    """Gives the next of some metrics at each evaluation."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return next(self.scores)


def fit(
    work_dir, model, data, epochs=1, hooks=(), metrics=None, stop=None, **cfg
):
    """Trains a model on samples, two a batch, to ``stop`` or the end."""
    hooks = [*hooks] if stop is None else [*hooks, StopHook(stop)]
    kind = cfg.pop('runner', Runner)
    defaults = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=make_loader(data),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=SGD,
        custom_hooks=hooks,
        default_scope='mmengine',
        experiment_name=f'{work_dir}_{next(COUNT)}',
        log_level='ERROR',
        cfg=Config(dict(work_dir=str(work_dir))),
    )
    if metrics is not None:
        defaults.update(val_dataloader=make_loader(data), val_cfg=dict())
        defaults.update(val_evaluator=[Scores(metrics)])
    runner = kind(**dict(defaults, **cfg))
    with nullcontext() if stop is None else pytest.raises(KeyboardInterrupt):
        runner.train()
    return runner


def make_loader(data, shuffle=False, **settings):
    sampler = dict(type='DefaultSampler', shuffle=shuffle)
    return dict(
        dict(dataset=data, sampler=sampler, batch_size=2, num_workers=0),
        **settings,
    )


@DATASETS.register_module('EngineTestData')
class Ramp(list):
    """Four samples of rising values."""

    def __init__(self, shape):
        super().__init__(dict(x=torch.full(shape, i / 4)) for i in range(4))


class Noise(Dataset):
    """Samples augmented with every generator."""

    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 11

    def get_data_info(self, index):  # for AspectRatioBatchSampler
        return dict(width=1 + index % 2, height=1.5)

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(3, 4, 4)
        return dict(x=index / 11 + noise, target=index % 2)


class Net(BaseModel):
    """Draws from every generator as well."""

    def __init__(self):
        super().__init__()
        norm = dict(type='GN', num_groups=1)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            BA2M(8, reduction=2, norm_cfg=norm, zero_init=False),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(32, 2),
        )

    def forward(self, x, target, mode):
        logits = self.layers(torch.stack(x)) * (0.5 + random.random())
        if mode == 'predict':
            return [logits]
        loss = nn.functional.cross_entropy(logits, torch.tensor(target))
        return dict(loss=loss + 0.01 * np.random.rand() * logits.mean())


class Draw(BaseMetric):
    """A metric that draws, and with it validation."""

    def process(self, data_batch, data_samples):
        self.results.append(float(torch.rand(7).sum()) + random.random())
        np.random.rand()

    def compute_metrics(self, results):
        return dict(score=1.0)


class StopHook(Hook):
    """Ends a run without further ado."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def train(work_dir, stop=None, hook=True, loader=None, **settings):
    """Trains what draws, from the newest checkpoint, if there is any."""
    hooks = [dict(type='EMAHook', momentum=0.1)]
    if hook:
        hooks.append(dict(type='mmba2m.RandomStateHook'))
        hooks.append(dict(type='mmba2m.ResumeValHook'))
    default_hooks = dict(
        logger=dict(type='LoggerHook', interval=100),
        checkpoint=dict(type='CheckpointHook', interval=1),
    )
    cfg = dict(
        resume=True,
        log_level='INFO',
        randomness=dict(seed=3),
        train_dataloader=make_loader(Noise(), shuffle=True, **loader or {}),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.01), clip_grad=dict(max_norm=1)
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
            # each validation is one without progress
            dict(type='ReduceOnPlateauLR', monitor='score', patience=0),
        ],
        val_dataloader=make_loader(Noise(), batch_size=4),
        val_cfg=dict(),
        val_evaluator=dict(type=Draw),
    )
    cfg.update(settings)
    cfg['default_hooks'] = default_hooks | settings.get('default_hooks', {})
    runner = fit(work_dir, dict(type=Net), None, 3, hooks, stop=stop, **cfg)
    # its workers end here, not when the next ones begin
    runner.train_loop.dataloader._iterator = None
    runner.train_loop.dataloader_iterator = None
    if cfg['train_dataloader']['num_workers']:
        gc.collect()
    return runner


def run_ranks(work, folder):
    """Calls ``work(rank, folder)`` in a group of two processes."""
    multiprocessing.start_processes(
        _run_rank, (work, folder), 2, start_method='forkserver'
    )


def _run_rank(rank, work, folder):
    torch.set_num_threads(1)
    rendezvous = f'file://{folder}/rendezvous'
    distributed.init_process_group(
        'gloo', init_method=rendezvous, rank=rank, world_size=2
    )
    work(rank, folder)  # see `leave_group`
