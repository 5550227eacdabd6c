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
    scalars_by_hand,
)
from mmengine.hooks import Hook
from mmengine.visualization.vis_backend import BaseVisBackend
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from toy_training import run_ranks, train

from mmba2m.engine.hooks import BA2MLoggerHook

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


class Oracle(Hook):
    """Sees SARs, weights and buffers from outside, in every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen, self.listened = {}, []

    def before_train(self, runner):
        def look(module, args, output):
            if not module.training:
                return
            (x,) = args
            with torch.no_grad():
                sar = module.sample_attention(x).double()
                weight = (output * x).flatten(1).sum(1).double()
                weight /= x.square().flatten(1).sum(1)
            buffers = module.running_normalizer, module.strength
            values = sar.numpy(), weight.numpy(), *(b.item() for b in buffers)
            self.seen[runner.iter + 1] = values

        self.module = runner.model.layers[2]
        self.module.register_forward_hook(look)

    def before_train_iter(self, runner, *args, **kwargs):
        if 'weigh' in vars(self.module):
            self.listened.append(runner.iter + 1)

    def after_train_iter(self, runner, *args, **kwargs):
        assert 'weigh' not in vars(self.module)


def test_records_are_those_of_the_batch_and_training_is_the_same(
    tmp_path, assert_same_checkpoints
):
    oracle = Oracle()
    anneal = dict(type='mmba2m.BA2MAnnealHook', begin=0.25, end=0.8)
    ours = dict(type='mmba2m.BA2MLoggerHook', interval=4)
    hooks = dict(logger=dict(type='LoggerHook', interval=1), ours=ours)
    settings = dict(
        default_hooks=dict(hooks, oracle=oracle, anneal=anneal),
        visualizer=dict(
            type='Visualizer', vis_backends=backends_of('Local', 'Tensorboard')
        ),
    )
    train(tmp_path / 'with', 9, **settings)
    train(tmp_path / 'with', **settings)
    train(tmp_path / 'without', default_hooks=dict(anneal=anneal))
    assert_same_checkpoints(
        tmp_path / 'without/epoch_3.pth', tmp_path / 'with/epoch_3.pth'
    )
    assert not lines_of(tmp_path / 'without')
    lines = lines_of(tmp_path / 'with')
    # resumed from the checkpoint after 6 iterations, it goes on counting
    steps = [4, 8, 8, 12, 16]
    assert [line['step'] for line in lines] == oracle.listened == steps
    # 6 batches an epoch, the last one of a single sample
    assert [len(oracle.seen[step][0]) for step in steps] == [2, 2, 2, 1, 2]
    strengths = [oracle.seen[step][3] for step in steps]
    assert strengths[0] == 1 > strengths[1] > strengths[-1] == 0
    events = read_events(tmp_path / 'with')
    for line in lines:
        step = line.pop('step')
        sar, weight, _, strength = oracle.seen[step]
        softmax = np.exp(sar) / np.exp(sar).sum()
        np.testing.assert_allclose(
            weight, 1 + strength * (len(sar) * softmax - 1), rtol=1e-5
        )
        expected = scalars_by_hand(*oracle.seen[step], 'layers.2')
        assert line == pytest.approx(expected, rel=1e-5, abs=1e-6)
        for tag in line:
            assert list(events[tag]) == [4, 8, 12, 16]
            assert events[tag][step] == pytest.approx(line[tag], rel=1e-6)
        for tag, values in (('sar', sar), ('weight', weight)):
            histogram = events[f'ba2m_{tag}/layers.2'][step]
            assert histogram.num == len(values)
            assert histogram.sum == pytest.approx(values.sum(), rel=1e-5)
            assert histogram.max == pytest.approx(values.max(), rel=1e-5)
    tags = {tag for tag in events if tag.startswith('ba2m')}
    assert tags == {*line, 'ba2m_sar/layers.2', 'ba2m_weight/layers.2'}
    # readers of scalars.json find only what they know
    lines = lines_of(tmp_path / 'with', 'scalars.json')
    assert not any('ba2m' in key for line in lines for key in line)
    assert sum('loss' in line for line in lines) == 9 + 12
    # with the validation that was made up for
    assert sum('score' in line for line in lines) == 1 + 3


# Two ranks with unequal batches against one process with all samples

SIZES = (1, 3)


def make_pair():
    torch.manual_seed(3)
    modules = [make_module(sync_batch=sync) for sync in (True, False)]
    return nn.Sequential(*modules).train(), make_batch(sum(SIZES))


def record_on_a_rank(rank, folder):
    model, x = make_pair()
    model = DistributedDataParallel(model)
    line, _ = record(model, x.split(SIZES)[rank], folder / str(rank))
    assert (line is None) == (rank > 0)


@pytest.mark.slow
def test_ranks_record_the_global_batch(tmp_path):
    run_ranks(record_on_a_rank, tmp_path)
    (line,) = lines_of(tmp_path / '0')
    assert not list((tmp_path / '1').rglob('events.*'))

    (one, two), x = make_pair()
    with torch.no_grad():
        first = one.sample_attention(x)
        weight = len(x) * first.softmax(0)
        second = two.sample_attention(x * weight.view(-1, 1, 1, 1)).numpy()
    first, weight = first.numpy(), weight.numpy()
    normalizer = np.exp(first).mean()
    expected = scalars_by_hand(first, weight, normalizer, 1, '0')
    # each rank on its own: of one sample, the weight is 1
    own = np.exp(second[1:])
    weight = np.array([1, *(3 * own / own.sum())])
    normalizer = np.exp(second[0])
    batches = [second[:1], second[1:]]
    expected |= scalars_by_hand(second, weight, normalizer, 1, '1', batches)
    assert line == pytest.approx(dict(expected, step=1), rel=1e-6)
    histogram = read_events(tmp_path / '0')['ba2m_weight/1'][1]
    assert (histogram.num, histogram.sum) == (4, pytest.approx(4))


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
    sar = module.sample_attention(x).mean().item()
    run = partial(run, module)
    line, _ = record(nn.Sequential(module), x, tmp_path, forward=run)
    assert line['ba2m_sar_mean/0'] == pytest.approx(sar)
    assert read_events(tmp_path)['ba2m_weight/0'][1].num == 3


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
    events = read_events(tmp_path)
    assert events['ba2m_sar/0'][1].num == 2
    assert 'ba2m_weight/0' not in events


class Other(BaseVisBackend):
    """A backend that knows scalars only."""

    experiment = _init_env = None

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
    forward = torch.Tensor.requires_grad_ if by_config else None
    line, (warning,) = record(
        model, make_batch(2), tmp_path, forward=forward, cfg=cfg
    )
    assert {*line} == {'ba2m_normalizer/0', 'ba2m_strength/0', 'step'}
    assert 'the network is compiled' in warning


def test_wrong_interval_is_named():
    for interval in (0, -5, 2.5, '10'):
        with pytest.raises(ValueError, match=f'got {interval!r}'):
            BA2MLoggerHook(interval=interval)
