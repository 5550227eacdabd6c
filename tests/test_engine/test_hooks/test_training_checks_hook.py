import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.optim import StepLR
from torch import nn
from toy_training import fit, loader

from mmba2m.engine.hooks import TrainingChecksHook
from mmba2m.models.attentions.ba2m import BA2M


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.one = BA2M(4, 2)
        self.two = BA2M(4, 2)
        self.fc = nn.Linear(4, 1)

    def forward(self, x, mode='loss'):
        x = self.fc(self.two(self.one(torch.stack(x))).mean((2, 3)))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x]


class Found(BaseMetric):
    """An empty metric where a detector found nothing."""

    def __init__(self, found):
        super().__init__()
        self.found = iter(found)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(acc=0.5) if next(self.found) else {}


STEPS = dict(type='MultiStepLR', milestones=[1, 3], gamma=0.5)
WARMUP = dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=3)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains, and returns what was warned of."""

    def train(
        epochs, schedule=None, lr=0.1, hooks=(), found=None, optim=None, **cfg
    ):
        messages = []
        monkeypatch.setattr(
            logging.Logger,
            'warning',
            lambda self, message, *args: messages.append(message),
        )
        data = [dict(x=torch.randn(4, 3, 3)) for _ in range(4)]
        if found is not None:
            cfg.update(
                val_dataloader=loader(data),
                val_cfg=dict(),
                val_evaluator=[Found(found)],
            )
        fit(
            tmp_path,
            Toy(),
            data,
            epochs,
            [dict(type='mmba2m.TrainingChecksHook'), *hooks],
            optim_wrapper=dict(optimizer=optim or dict(type='SGD', lr=lr)),
            param_scheduler=schedule,
            cfg=Config(dict(resume=cfg.get('resume'))),
            **cfg,
        )
        # of MMEngine's own
        ours = ('A resumed run', 'The weights that', 'The trained network')
        return [m for m in messages if m.startswith(ours)]

    return train


def resume(tmp_path, epoch=2):
    return dict(resume=True, load_from=str(tmp_path / f'epoch_{epoch}.pth'))


def test_a_longer_schedule_is_named(train, tmp_path):
    assert not train(2, [WARMUP, STEPS])
    steps = dict(STEPS, milestones=[1, 6])
    (warning,) = train(5, [WARMUP, steps], **resume(tmp_path))
    assert 'param_scheduler[1] (MultiStepLR) has' in warning
    assert 'milestones [1, 3] instead of [1, 6]' in warning
    assert 'end 2 instead of 5' in warning
    assert 'param_scheduler[0]' not in warning
    assert 'load_from=CHECKPOINT, without --resume' in warning


def test_what_it_warns_of_is_what_happens(train, tmp_path):
    """The learning rate of MMEngine's resumed run does not fall again."""
    train(2, STEPS)
    assert train(4, STEPS, **resume(tmp_path))  # its end was the run's
    resumed = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    assert not train(3, STEPS, load_from=str(tmp_path / 'epoch_2.pth'))
    train(4, STEPS)
    whole = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    rates = [c['optimizer']['param_groups'][0]['lr'] for c in (resumed, whole)]
    assert rates == pytest.approx([0.05, 0.025])


def test_the_same_schedule_is_silent(train, tmp_path):
    # before the end, so that the schedule is the same
    schedule = [
        WARMUP,
        dict(STEPS, end=4),
        dict(type='CosineAnnealingLR', T_max=9, end=9),
        dict(type='OneCycleLR', eta_max=0.2, total_steps=20, end=20),
        dict(type='ReduceOnPlateauLR', monitor='loss', begin=9, end=10),
    ]
    assert not train(2, schedule)
    assert not train(3, schedule, **resume(tmp_path))


def test_another_rate_or_kind_is_named(train, tmp_path):
    train(2, dict(STEPS, end=4))
    (warning,) = train(3, dict(STEPS, end=4), lr=0.3, **resume(tmp_path))
    assert 'lr 0.1 instead of 0.3' in warning
    cosine = dict(type='CosineAnnealingLR', T_max=9, end=4)
    (warning,) = train(3, cosine, **resume(tmp_path))
    assert '(CosineAnnealingLR) has T_max nothing instead of 9' in warning
    (warning,) = train(3, [WARMUP, cosine], **resume(tmp_path))
    assert '1 schedulers instead of 2' in warning


ANNEAL = dict(type='mmba2m.BA2MAnnealHook', begin=0.0, end=0.5)


@pytest.mark.filterwarnings('ignore:BA2M')
def test_modules_that_are_off_are_named(train, tmp_path):
    assert not train(2, hooks=[ANNEAL])
    start = dict(load_from=str(tmp_path / 'epoch_2.pth'))
    (warning,) = train(1, **start)
    assert 'below 1 in one (0), two (0)' in warning
    assert 'BA2MAnnealHook' in warning
    assert not train(1, hooks=[ANNEAL], **start)
    path = tmp_path / 'on.pth'
    state = torch.load(start['load_from'], weights_only=False)['state_dict']
    state['two.strength'].fill_(1)
    torch.save(state, path)
    (warning,) = train(1, load_from=str(path))
    assert 'below 1 in one (0):' in warning
    state['one.strength'].fill_(1)  # the way out
    torch.save(state, path)
    assert not train(1, load_from=str(path))


@pytest.mark.parametrize(
    'found, warned', [([1, 0], True), ([0, 1], False), ([0, 0], True)]
)
def test_a_network_that_finds_nothing_is_told_at_the_end(train, found, warned):
    warnings = train(2, found=found)
    assert [w[:30] for w in warnings] == [
        'The trained network finds noth'
    ] * warned


def test_several_optimizers():
    hook = TrainingChecksHook()
    messages = []
    parameter = nn.Parameter(torch.zeros(1))

    def scheduler(step):
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        return StepLR(optimizer, step_size=step)

    class Logger:
        warning = messages.append

    class FakeRunner:
        cfg = dict(resume=True)
        param_schedulers = dict(gen=[scheduler(5)], dis=[scheduler(7)])
        logger = Logger

    saved = dict(gen=[scheduler(5)], dis=[scheduler(6)])
    saved = {k: [s.state_dict() for s in v] for k, v in saved.items()}
    hook.after_load_checkpoint(FakeRunner, dict(param_schedulers=saved))
    (message,) = messages
    assert 'param_scheduler.dis[0] (StepLR) has step_size 6 inst' in message
    assert 'gen' not in message
