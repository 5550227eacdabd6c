import math
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from logger_records import (
    backends_of,
    lines_of,
    make_batch,
    make_module,
    read_events,
    record,
)
from mmengine.hooks import Hook
from mmengine.visualization.vis_backend import BaseVisBackend
from torch import nn
from torch.utils.checkpoint import checkpoint
from toy_training import train

from mmba2m.engine.hooks import BA2MLoggerHook

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


SCALARS = [
    'ba2m_sar_mean',
    'ba2m_sar_std',
    'ba2m_weight_min',
    'ba2m_weight_max',
    'ba2m_weight_std',
    'ba2m_weight_entropy',
    'ba2m_normalizer',
    'ba2m_strength',
]


def settings(interval=2, **others):
    hook = dict(type='mmba2m.BA2MLoggerHook', interval=interval)
    return dict(
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            ba2m_logger=hook,
            **others,
        ),
        visualizer=dict(
            type='Visualizer', vis_backends=backends_of('Local', 'Tensorboard')
        ),
    )


class Oracle(Hook):
    """Sees SARs, weights and buffers from outside, in every iteration."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.seen, self.listened = {}, []
        module = runner.model.layers[2]

        def look(module, args, output):
            if not module.training:
                return
            with torch.no_grad():
                sar = module.sample_attention(args[0]).double()
                weight = (output * args[0]).sum((1, 2, 3)) / (
                    args[0].square().sum((1, 2, 3))
                )
            self.seen[runner.iter + 1] = (
                sar.numpy(),
                weight.double().numpy(),
                module.strength.item(),
                module.running_normalizer.item(),
            )

        module.register_forward_hook(look)

    def before_train_iter(self, runner, *args, **kwargs):
        if 'weigh' in vars(runner.model.layers[2]):
            self.listened.append(runner.iter + 1)

    def after_train_iter(self, runner, *args, **kwargs):
        assert 'weigh' not in vars(runner.model.layers[2])


def expected_scalars(sar, weight, strength, normalizer):
    p = np.exp(sar) / np.exp(sar).sum()
    n = len(sar)
    np.testing.assert_allclose(weight, 1 + strength * (n * p - 1), rtol=1e-5)
    entropy = -(p * np.log(p)).sum() / np.log(n) if n > 1 else 1
    values = [sar.mean(), np.sqrt(((sar - sar.mean()) ** 2).mean())]
    values += [weight.min(), weight.max(), weight.std(), entropy]
    return dict(
        zip(SCALARS, [*values, normalizer, strength], strict=True),
    )


def test_scalars_and_histograms_are_those_of_the_batch(tmp_path):
    oracle = Oracle()
    anneal = dict(type='mmba2m.BA2MAnnealHook', begin=0.2, end=0.8)
    train(
        tmp_path, **settings(2, oracle=oracle, anneal=anneal)
    )  # 6 batches an epoch, the last one of a single sample
    steps = list(range(2, 19, 2))
    assert [len(oracle.seen[step][0]) for step in steps] == [2, 2, 1] * 3
    lines = lines_of(tmp_path)
    assert [line['step'] for line in lines] == oracle.listened == steps
    scalars, histograms = read_events(tmp_path)
    strengths = set()
    for line in lines:
        step = line.pop('step')
        sar, weight, strength, _ = oracle.seen[step]
        strengths.add(strength)
        assert len(line) == len(SCALARS)
        expected = expected_scalars(*oracle.seen[step])
        for key, value in expected.items():
            tag = f'{key}/layers.2'
            assert line[tag] == pytest.approx(value, rel=1e-5, abs=1e-6)
            assert scalars[tag][step] == pytest.approx(line[tag], rel=1e-6)
        for tag, values in (('sar', sar), ('weight', weight)):
            histogram = histograms[f'ba2m_{tag}/layers.2'][step]
            assert histogram.num == len(values)
            assert histogram.sum == pytest.approx(values.sum(), rel=1e-5)
            assert histogram.max == pytest.approx(values.max(), rel=1e-5)
    assert {0, 1} < strengths  # and some between
    tags = {tag for tag in scalars if tag.startswith('ba2m')}
    assert tags == {f'{key}/layers.2' for key in SCALARS}


def test_training_is_the_same_and_so_are_the_lines_that_others_read(
    tmp_path, assert_same_checkpoints
):
    train(tmp_path / 'with', 9, **settings(4))
    train(tmp_path / 'with', **settings(4))
    train(tmp_path / 'without', **dict(settings(4), default_hooks={}))
    assert_same_checkpoints(
        tmp_path / 'without/epoch_3.pth', tmp_path / 'with/epoch_3.pth'
    )
    assert not lines_of(tmp_path / 'without')
    # resumed from the checkpoint after 6 iterations, it goes on counting
    steps = [line['step'] for line in lines_of(tmp_path / 'with')]
    assert steps == [4, 8, 8, 12, 16]
    scalars, _ = read_events(tmp_path / 'with')
    assert list(scalars['ba2m_sar_mean/layers.2']) == [4, 8, 12, 16]
    # readers of scalars.json find only what they know
    lines = lines_of(tmp_path / 'with', 'scalars.json')
    assert not any('ba2m' in key for line in lines for key in line)
    assert sum('loss' in line for line in lines) == 9 + 12
    # with the validation that was made up for
    assert sum('score' in line for line in lines) == 1 + 3


# The rest without a Runner: what hook and modules do in one iteration


@pytest.mark.parametrize(
    'run',
    [
        lambda module, x: module(x) + module(x * 3),
        partial(checkpoint, use_reentrant=False),
        partial(checkpoint, use_reentrant=True),
    ],
)
def test_the_first_of_several_passes_counts(tmp_path, run):
    module, x = make_module(), make_batch(3).requires_grad_()
    with torch.no_grad():
        sar = module.sample_attention(x)
    line, _ = record(
        nn.Sequential(module), x, tmp_path, forward=partial(run, module)
    )
    assert line['ba2m_sar_mean/0'] == pytest.approx(sar.mean().item())
    _, histograms = read_events(tmp_path)
    assert histograms['ba2m_weight/0'][1].num == 3


def test_a_module_that_does_not_run_has_its_buffers(tmp_path):
    model = nn.ModuleDict(dict(on=make_module(), off=make_module()))
    model['off'].strength.fill_(0.25)
    line, _ = record(model, make_batch(2), tmp_path, forward=model['on'])
    off = {key: value for key, value in line.items() if key.endswith('/off')}
    assert off == {'ba2m_normalizer/off': 0, 'ba2m_strength/off': 0.25}
    assert len(line) == 8 + 2 + 1
    # and networks without the module write nothing
    other = record(nn.Conv2d(8, 8, 1), make_batch(2).float(), tmp_path / '2')
    assert other == (None, [])


def test_values_that_are_not_finite(tmp_path):
    module, x = make_module(), make_batch(3)
    x[1] = math.inf
    line, _ = record(nn.Sequential(module), x, tmp_path)
    assert math.isnan(line['ba2m_sar_mean/0'])
    _, histograms = read_events(tmp_path)
    assert histograms['ba2m_sar/0'][1].num == 2
    assert 'ba2m_weight/0' not in histograms


class Other(BaseVisBackend):
    """A backend that knows scalars only."""

    experiment = None

    def _init_env(self):
        pass

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        self.call = scalar_dict, step


def test_other_backends_get_the_scalars_and_wandb_histograms(
    tmp_path, monkeypatch
):
    logged = []
    wandb = SimpleNamespace(
        init=lambda **kwargs: None,
        join=lambda: None,
        Histogram=lambda values: ('histogram', *values),
        log=lambda values, commit: logged.append(values),
    )
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    module, x, other = make_module(), make_batch(3), Other('unused')
    with torch.no_grad():
        sar = module.sample_attention(x).tolist()
    backends = [*backends_of('Local', 'Wandb'), other]
    line, _ = record(nn.Sequential(module), x, tmp_path, backends)
    (values,) = logged
    assert values['iter'] == line.pop('step') == 1
    assert other.call == (line, 1)
    assert values['ba2m_sar/0'] == ('histogram', *sar)
    assert len(values['ba2m_weight/0']) == 1 + 3
    assert {key: values[key] for key in line} == line
    assert len(values) == len(line) + 3


@pytest.mark.parametrize('by_config', [True, False])
def test_compiled_networks_have_their_buffers(tmp_path, by_config):
    model, cfg = nn.Sequential(make_module()), dict(compile=True)
    if not by_config:
        model, cfg = torch.compile(model, backend='eager'), {}
    forward = (lambda x: x.requires_grad_()) if by_config else None
    line, warnings = record(
        model, make_batch(2), tmp_path, forward=forward, cfg=cfg
    )
    assert {key for key in line if '/' in key} == {
        'ba2m_normalizer/0',
        'ba2m_strength/0',
    }
    (warning,) = warnings
    assert 'the network is compiled' in warning


@pytest.mark.parametrize('interval', [0, -5, 2.5, '10'])
def test_wrong_interval_is_named(interval):
    with pytest.raises(ValueError, match=f'got {interval!r}'):
        BA2MLoggerHook(interval=interval)
