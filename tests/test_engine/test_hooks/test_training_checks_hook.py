import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import StepLR
from torch import nn
from toy_training import Toy, fit

from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.engine.hooks import TrainingChecksHook
from mmba2m.models.attentions.ba2m import BA2M

STEPS = dict(type='MultiStepLR', milestones=[1, 3], gamma=0.5)
WARMUP = dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=3)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains, and returns what was warned of."""

    def train(epochs, schedule=None, lr=0.1, hooks=(), optim=None, **cfg):
        messages = []
        monkeypatch.setattr(
            logging.Logger,
            'warning',
            lambda self, message, *args: messages.append(message),
        )
        fit(
            tmp_path,
            Toy(BA2M(4, 2), BA2M(4, 2), nn.Flatten(), nn.Linear(36, 1)),
            [dict(x=torch.randn(4, 3, 3)) for _ in range(4)],
            epochs,
            [dict(type='mmba2m.TrainingChecksHook'), *hooks],
            optim_wrapper=optim or dict(optimizer=dict(type='SGD', lr=lr)),
            param_scheduler=schedule,
            cfg=Config(dict(resume=cfg.get('resume'))),
            **cfg,
        )
        # of MMEngine's own
        ours = ('A resumed run', 'The weights that', 'The trained network')
        return [m for m in messages if m.startswith(ours)]

    return train


COSINE = dict(type='CosineAnnealingLR', T_max=9, end=4)
# before the end, so that the schedule is the same
END = dict(STEPS, end=4)
SAME = [
    *(WARMUP, END, dict(COSINE, end=9)),
    dict(type='OneCycleLR', eta_max=0.2, total_steps=20, end=20),
    dict(type='ReduceOnPlateauLR', monitor='loss', begin=9, end=10),
]


@pytest.mark.parametrize(
    ('before', 'after', 'lr', 'expected'),
    [
        (SAME, SAME, 0.1, []),
        (END, END, 0.3, ['lr 0.1 instead of 0.3']),
        (SAME, END, 0.1, ['5 schedulers instead of 1']),
        (END, COSINE, 0.1, ['(CosineAnnealingLR) has T_max nothing inst']),
        (END, [WARMUP, COSINE], 0.1, ['1 schedulers instead of 2']),
        (
            [WARMUP, STEPS],
            [WARMUP, dict(STEPS, milestones=[1, 6])],
            0.1,
            [
                'of the config: param_scheduler[1] (MultiStepLR) has',
                'milestones [1, 3] instead of [1, 6]',
                'end 2 instead of 3',
                'load_from=CHECKPOINT, without --resume',
            ],
        ),
    ],
)
def test_another_schedule_than_the_checkpoint_has_is_named(
    train, tmp_path, before, after, lr, expected
):
    assert not train(2, before)
    start = dict(load_from=str(tmp_path / 'epoch_2.pth'))
    warnings = train(3, after, lr, resume=True, **start)
    assert len(warnings) == bool(expected)
    assert all(text in warnings[0] for text in expected)
    assert not train(3, after, lr, **start)


def optim(type='SGD', **settings):
    return dict(optimizer=dict(type=type, lr=0.1, **settings))


BIASES = dict(paramwise_cfg=dict(bias_decay_mult=0.0))


def test_settings_of_the_optimizer_are_compared(train, tmp_path):
    assert not train(1, optim=optim(momentum=0.9, weight_decay=0.1))
    start = dict(load_from=str(tmp_path / 'epoch_1.pth'))
    for schedule in (None, END):
        found = train(
            2, schedule, optim=optim(weight_decay=0.2), resume=True, **start
        )
        assert 'optimizer has ' in found[0]
        assert 'momentum 0.9 instead of 0' in found[0]
        assert 'weight_decay 0.1 instead of 0.2' in found[0]
        assert 'lr' not in found[0].partition('optimizer has')[2]
    (found,) = train(2, lr=0.3, resume=True, **start)
    assert 'lr 0.1 instead of 0.3' in found
    for other in (optim('AdamW'), optim(weight_decay=0.1) | BIASES):
        with pytest.raises(
            ValueError, match=r'is of an optimizer with .*load_from='
        ):
            train(2, optim=other, resume=True, **start)
        assert not train(2, optim=other, **start)
    state = load_checkpoint(start['load_from'])
    del state['optimizer']
    torch.save(state, start['load_from'])
    (found,) = train(2, resume=True, **start)
    assert 'no optimizer: its state begins anew' in found


ANNEAL = dict(type='mmba2m.BA2MAnnealHook', begin=0.0, end=0.5)


@pytest.mark.filterwarnings('ignore:BA2M')
def test_modules_that_are_off_are_named(train, tmp_path):
    assert not train(2, hooks=[ANNEAL])
    start = dict(load_from=str(tmp_path / 'epoch_2.pth'))
    (warning,) = train(1, **start)
    assert 'below 1 in layers.0 (0), layers.1 (0)' in warning
    assert 'BA2MAnnealHook' in warning
    assert not train(1, hooks=[ANNEAL], **start)
    path = str(tmp_path / 'on.pth')
    state = load_checkpoint(start['load_from'])['state_dict']
    state['layers.1.strength'].fill_(1)
    torch.save(state, path)
    (warning,) = train(1, load_from=path)
    assert 'below 1 in layers.0 (0):' in warning
    state['layers.0.strength'].fill_(1)  # the way out
    torch.save(state, path)
    assert not train(1, load_from=path)


@pytest.mark.parametrize(
    'found, warned', [([1, 0], True), ([0, 1], False), ([0, 0], True)]
)
def test_a_network_that_finds_nothing_is_told_at_the_end(train, found, warned):
    warnings = train(2, metrics=[dict(acc=1) if f else {} for f in found])
    assert len(warnings) == warned
    assert all('finds nothing in any validation' in w for w in warnings)


def test_several_optimizers():
    messages = []

    def scheduler(step):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        return StepLR(optimizer, step_size=step)

    runner = SimpleNamespace(
        cfg=dict(resume=True),
        optim_wrapper=SimpleNamespace(state_dict=dict),
        param_schedulers=dict(gen=[scheduler(5)], dis=[scheduler(7)]),
        logger=SimpleNamespace(warning=messages.append),
    )
    saved = {
        name: [scheduler(step).state_dict()]
        for name, step in (('gen', 5), ('dis', 6))
    }
    hook = TrainingChecksHook()
    saved = dict(param_schedulers=saved, optimizer={})
    hook.after_load_checkpoint(runner, saved)
    (message,) = messages
    assert 'param_scheduler.dis[0] (StepLR) has step_size 6 inst' in message
    assert 'gen' not in message
