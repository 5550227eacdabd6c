from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import nn
from toy_training import fit

from mmba2m.engine.hooks import BA2MAnnealHook
from mmba2m.models.attentions.ba2m import BA2M

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def run(hook, max_iters, start=0):
    """The strength that each iteration sees, and the one that is left."""
    model = nn.Sequential(BA2M(4, 2), nn.Sequential(BA2M(8, 2)))
    modules = (model[0], model[1][0])
    runner = SimpleNamespace(
        model=model, iter=start, max_iters=max_iters, hooks=[]
    )
    seen = []
    hook.before_train(runner)
    for runner.iter in range(start, max_iters):
        hook.before_train_iter(runner, 0)
        assert modules[0].strength == modules[1].strength
        seen.append(modules[0].strength.item())
        hook.after_train_iter(runner, 0)
    assert modules[0].strength == modules[1].strength
    return seen, modules[0].strength.item()


@pytest.mark.parametrize(
    ('begin', 'end', 'expected'),
    [
        (0.5, 0.8, [1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0, 0]),
        (0, 1, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.25, 0.75, [1, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.1, 0, 0]),
        (0.9, 1, [1] * 10),
    ],
)
def test_strength_falls_linearly_to_zero(begin, end, expected):
    seen, left = run(BA2MAnnealHook(begin, end), max_iters=10)
    assert seen == pytest.approx(expected, abs=1e-6)
    assert left == 0


@pytest.mark.parametrize('start', [0, 3, 6, 9])
def test_resumed_run_sees_the_same(start):
    whole, _ = run(BA2MAnnealHook(0.2, 0.9), max_iters=10)
    seen, left = run(BA2MAnnealHook(0.2, 0.9), max_iters=10, start=start)
    assert seen == whole[start:]
    assert left == 0


@pytest.mark.parametrize(
    ('begin', 'end'), [(0.8, 0.5), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)]
)
def test_wrong_fractions_are_named(begin, end):
    with pytest.raises(ValueError, match=f'begin={begin} and end={end}'):
        BA2MAnnealHook(begin, end)


def test_model_without_the_module_is_refused():
    runner = SimpleNamespace(
        model=nn.Linear(2, 2), iter=0, max_iters=10, hooks=[]
    )
    with pytest.raises(ValueError, match='no BA2M module'):
        BA2MAnnealHook().before_train(runner)


def test_model_may_be_wrapped():
    model = nn.Sequential(BA2M(4, 2))
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = model
    runner = SimpleNamespace(model=wrapper, iter=9, max_iters=10, hooks=[])
    BA2MAnnealHook().before_train(runner)
    assert model[0].strength == 0


# With a real runner


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.ba2m = BA2M(4, 2)
        self.fc = nn.Linear(4, 1)

    def forward(self, x, mode='loss'):
        x = self.fc(self.ba2m(torch.stack(x)).mean((2, 3)))
        return dict(loss=x.square().mean()) if mode == 'loss' else x


class Recorder(Hook):
    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(runner.model.ba2m.strength.item())


def train(work_dir, recorder, *hooks, **settings):
    data = [dict(x=torch.randn(4, 5, 5) * (i + 1)) for i in range(4)]
    anneal = dict(type='mmba2m.BA2MAnnealHook', begin=0.25, end=0.75)
    return fit(
        work_dir, Toy(), data, 4, [anneal, recorder, *hooks], **settings
    )


def test_checkpoints_keep_the_strength_and_resuming_restores_it(tmp_path):
    recorder = Recorder()
    train(tmp_path, recorder)  # 2 iterations an epoch
    expected = [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert recorder.seen == pytest.approx(expected, abs=1e-6)

    saved = [
        torch.load(tmp_path / f'epoch_{i}.pth', weights_only=False)
        for i in (1, 2, 3, 4)
    ]
    saved = [c['state_dict']['ba2m.strength'].item() for c in saved]
    assert saved == pytest.approx([1, 0.5, 0, 0], abs=1e-6)

    recorder = Recorder()
    runner = train(
        tmp_path / 'resumed',
        recorder,
        resume=True,
        load_from=str(tmp_path / 'epoch_2.pth'),
    )
    assert recorder.seen == pytest.approx(expected[4:], abs=1e-6)
    assert runner.model.ba2m.strength == 0


@pytest.mark.parametrize('update_buffers', [False, True])
def test_moving_average_of_the_model_follows(tmp_path, update_buffers):
    ema = dict(type='EMAHook', momentum=0.001, update_buffers=update_buffers)
    train(tmp_path, Recorder(), ema)
    for epoch, expected in ((1, 1), (2, 0.5), (4, 0)):
        path = tmp_path / f'epoch_{epoch}.pth'
        saved = torch.load(path, weights_only=False)
        averaged, trained = saved['state_dict'], saved['ema_state_dict']
        assert averaged['ba2m.strength'] == expected
        assert trained['module.ba2m.strength'] == expected
