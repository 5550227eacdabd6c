from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from toy_training import Toy, fit

from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.engine.hooks import BA2MAnnealHook
from mmba2m.models.attentions.ba2m import BA2M

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def run(begin, end, start=0):
    """The strength that each of ten iterations sees; at the end it is 0."""
    hook = BA2MAnnealHook(begin, end)
    model = nn.Sequential(BA2M(4, 2), nn.Sequential(BA2M(8, 2)))
    modules = (model[0], model[1][0])
    runner = SimpleNamespace(model=model, iter=start, max_iters=10, hooks=[])
    seen = []
    hook.before_train(runner)
    for runner.iter in range(start, 10):
        hook.before_train_iter(runner, 0)
        assert modules[0].strength == modules[1].strength
        seen.append(modules[0].strength.item())
        hook.after_train_iter(runner, 0)
    assert modules[0].strength == modules[1].strength == 0
    return seen


@pytest.mark.parametrize(
    ('begin', 'end', 'expected'),
    [
        (0.5, 0.8, [1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0, 0]),
        (0, 1, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.25, 0.75, [1, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.1, 0, 0]),
        (0.9, 1, [1] * 10),
    ],
)
def test_strength_falls_linearly_to_zero_also_when_resumed(
    begin, end, expected
):
    seen = run(begin, end)
    assert seen == pytest.approx(expected, abs=1e-6)
    for start in (3, 6, 9):
        assert run(begin, end, start) == seen[start:]


def test_what_cannot_be_annealed_is_named():
    for begin, end in ((0.8, 0.5), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match=f'begin={begin} and end={end}'):
            BA2MAnnealHook(begin, end)
    runner = SimpleNamespace(model=nn.Linear(2, 2), hooks=[])
    with pytest.raises(ValueError, match='no BA2M module'):
        BA2MAnnealHook().before_train(runner)


class Recorder(Hook):
    def before_train(self, runner):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(runner.model.layers[0].strength.item())


@pytest.mark.parametrize('update_buffers', [None, False, True])
def test_checkpoints_and_moving_averages_keep_the_strength(
    tmp_path, update_buffers
):
    recorder = Recorder()
    hooks = [dict(type='mmba2m.BA2MAnnealHook', begin=0.25, end=0.75)]
    ema = dict(type='EMAHook', momentum=0.001, update_buffers=update_buffers)
    hooks += [recorder] if update_buffers is None else [recorder, ema]
    data = [dict(x=torch.randn(4, 5, 5) * (i + 1)) for i in range(4)]
    model = [BA2M(4, 2), nn.Flatten(), nn.Linear(100, 1)]
    fit(tmp_path, Toy(*model), data, 4, hooks)  # 2 iterations an epoch
    expected = [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert recorder.seen == pytest.approx(expected, abs=1e-6)

    for epoch, strength in enumerate([1, 0.5, 0, 0], 1):
        saved = load_checkpoint(tmp_path / f'epoch_{epoch}.pth')
        assert saved['state_dict']['layers.0.strength'] == strength
        if ema in hooks:
            trained = saved['ema_state_dict']['module.layers.0.strength']
            assert trained == strength

    model[0] = BA2M(4, 2)
    path = str(tmp_path / 'epoch_2.pth')
    fit(tmp_path, Toy(*model), data, 4, hooks, resume=True, load_from=path)
    assert recorder.seen == pytest.approx(expected[4:], abs=1e-6)
    assert model[0].strength == 0
