"""A run of seconds in which everything draws random numbers."""

import gc
import itertools
import random

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import distributed, nn
from torch.utils.data import Dataset

from mmba2m.engine.runner import Runner as OurRunner
from mmba2m.models.attentions.ba2m import BA2M

# batches of an epoch: 11 samples by two
EPOCH = 6
COUNT = itertools.count()
BY_ITER = dict(
    checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False),
)
ITER_BASED = dict(
    train_cfg=dict(by_epoch=False, max_iters=3 * EPOCH, val_interval=4),
    default_hooks=BY_ITER,
)


def fit(work_dir, model, data, epochs=1, hooks=(), **settings):
    """Trains any model on a list of samples, two a batch, in their order."""
    cfg = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader(data),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=list(hooks),
        default_scope='mmengine',
        experiment_name=f'{work_dir}_{next(COUNT)}',
        log_level='ERROR',
        cfg=Config(dict(work_dir=str(work_dir))),
    )
    runner = Runner(**dict(cfg, **settings))
    runner.train()
    return runner


def loader(data):
    return dict(
        dataset=data,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
        num_workers=0,
    )


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
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            BA2M(
                8,
                reduction=2,
                norm_cfg=dict(type='GN', num_groups=1),
                zero_init=False,
            ),
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


def train(
    work_dir, stop=None, hook=True, loader=None, runner=Runner, **settings
):
    """Trains from the newest checkpoint, if any, to ``stop`` or the end."""
    cfg = dict(
        work_dir=str(work_dir),
        experiment_name=f'{work_dir}_{stop}',
        resume=True,
        randomness=dict(seed=3),
        train_dataloader=dict(
            dict(
                dataset=Noise(),
                sampler=dict(type='DefaultSampler', shuffle=True),
                batch_size=2,
                num_workers=0,
            ),
            **loader or {},
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.01), clip_grad=dict(max_norm=1)
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
            # each validation is one without progress
            dict(type='ReduceOnPlateauLR', monitor='score', patience=0),
        ],
        val_dataloader=dict(
            dataset=Noise(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=4,
            num_workers=0,
        ),
        val_cfg=dict(),
        val_evaluator=dict(type=Draw),
    )
    cfg.update(settings)
    cfg['default_hooks'] = dict(
        dict(
            logger=dict(type='LoggerHook', interval=100),
            checkpoint=dict(type='CheckpointHook', interval=1),
        ),
        **settings.get('default_hooks', {}),
    )
    hooks = [dict(type='EMAHook', momentum=0.1)]
    if hook:
        hooks += [
            dict(type='mmba2m.RandomStateHook'),
            dict(type='mmba2m.ResumeValHook'),
        ]
    if stop is not None:
        hooks.append(dict(type=StopHook, at=stop))
    runner = runner(model=dict(type=Net), custom_hooks=hooks, **cfg)
    try:
        runner.train()
    except KeyboardInterrupt:
        assert stop is not None
    else:
        assert stop is None
    # its workers end here, not when the next ones begin
    runner.train_loop.dataloader._iterator = None
    runner.train_loop.dataloader_iterator = None
    if cfg['train_dataloader']['num_workers']:
        gc.collect()
    return runner


def train_on_two_ranks(rank, folder, **settings):
    """What a process does: a whole run, and one in two parts."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=2,
    )
    settings.update(runner=OurRunner, launcher='pytorch', env_cfg={})
    train(f'{folder}/whole', **settings)
    train(f'{folder}/parts', 8, **settings)
    train(f'{folder}/parts', **settings)
    distributed.destroy_process_group()
