from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.structures import BaseDataElement
from torch import nn
from toy_training import BY_ITER, SGD, fit, run_ranks

from mmba2m.engine.hooks import TerminateOnNaNHook
from mmba2m.engine.hooks.atomic_checkpoint_hook import _check_weights

NAN = float('nan')


class Toy(BaseModel):
    """Two losses, of which the second is infinite where an input is."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)

    def forward(self, inputs, data_samples, mode='loss'):
        inputs = torch.stack(inputs)
        return dict(
            loss_fit=self.fc(inputs.nan_to_num(0, 0)).square().mean(),
            loss_data=self.fc(inputs).abs().mean(),
            acc=torch.tensor(NAN),  # logged only
        )


def sample(**metainfo):
    return BaseDataElement(metainfo=metainfo)


def train(tmp_path, values, optim_wrapper=None, patience=50):
    """Trains on batches of two, and returns the runner."""
    data = [
        dict(
            inputs=torch.tensor([float(value)]),
            data_samples=sample(img_path=f'{i}.jpg'),
        )
        for i, value in enumerate(values)
    ]
    hook = dict(type='mmba2m.TerminateOnNaNHook', patience=patience)
    optim = optim_wrapper or dict(SGD, clip_grad=dict(max_norm=1))
    settings = dict(optim_wrapper=optim, default_hooks=BY_ITER)
    return fit(tmp_path, Toy(), data, hooks=[hook], **settings)


@pytest.mark.parametrize('bad', ['nan', 'inf'])
def test_bad_loss_ends_at_once_with_its_images(tmp_path, bad):
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, [1, 2, 3, 4, 5, bad, 7, 8])
    assert str(caught.value) == (
        f'iteration 3: loss is {bad}, loss_data is {bad}. '
        'Images: 4.jpg, 5.jpg; of the iteration before: 2.jpg, 3.jpg'
    )
    # and no checkpoint of the broken weights
    checkpoints = {path.name for path in tmp_path.glob('*.pth')}
    assert checkpoints == {'iter_1.pth', 'iter_2.pth'}


class Scaled(AmpOptimWrapper):
    """The host's wrapper, with the scaler of the CPU."""

    def __init__(self, optimizer, init_scale=1.0):
        OptimWrapper.__init__(self, optimizer)
        self._scale_update_param = self.cast_dtype = None
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)


SCALED = dict(SGD, type=Scaled)
needs_cpu_scaler = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'),
    reason='this torch scales losses on GPUs only',
)


@needs_cpu_scaler
@pytest.mark.parametrize(
    ('values', 'scale', 'patience'),
    [
        ([1, 2, 3, 'nan', 5, 'inf', 7, 8], 1.0, 3),  # in the losses
        (range(1, 21), 2.0**127, 1),  # in the gradients
    ],
)
def test_skipped_steps_of_a_scaler_do_not_end_the_run(
    tmp_path, values, scale, patience
):
    runner = train(tmp_path, values, dict(SCALED, init_scale=scale), patience)
    assert runner.iter == len(values) / 2
    # a skipped step halves the scale
    assert 0 < runner.optim_wrapper.loss_scaler.get_scale() < scale
    for parameter in runner.model.parameters():
        assert parameter.isfinite().all()


@needs_cpu_scaler
def test_lasting_nan_ends_a_run_with_a_scaler(tmp_path):
    # the third iteration starts the count anew
    values = [1, 2, 'nan', 4, 5, 6, *['nan'] * 20]
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, values, SCALED, patience=4)
    assert str(caught.value).startswith(
        'iteration 7: loss is nan, loss_data is nan for 4 iterations. '
        'Images: 12.jpg, 13.jpg;'
    )


def _look(rank, folder):
    runner = SimpleNamespace(iter=0, optim_wrapper=None)
    loss = dict(loss=torch.tensor([1.0, NAN][rank]))
    named = ['another process', 'loss is nan'][rank]
    hook = TerminateOnNaNHook()
    hook.after_train_iter(runner, 0, {}, dict(loss=torch.tensor(1.0)))
    with pytest.raises(FloatingPointError, match=named):
        hook.after_train_iter(runner, 0, {}, loss)
    runner.hooks, runner.model = [hook], nn.Linear(1, 1)
    _check_weights(runner)
    if not rank:
        runner.model.bias.data.fill_(NAN)
    named = ['NaN or infinite: bias', 'another process'][rank]
    with pytest.raises(FloatingPointError, match=named):
        _check_weights(runner)


def test_all_ranks_end_where_one_does(tmp_path):
    run_ranks(_look, tmp_path)


@pytest.mark.parametrize(
    ('samples', 'expected'),
    [
        ([sample(img_path='a.jpg', img_id=1), sample(img_id=2)], 'a.jpg, 2'),
        ([sample(sample_idx=7), sample()], '7'),
        (dict(x=[sample(img_path='a')], y=[sample(img_path='b')]), 'a, b'),
        ([], 'unknown'),
        (None, 'unknown'),
    ],
)
def test_images_of_any_batch_are_named(samples, expected):
    runner = SimpleNamespace(iter=0, optim_wrapper=None)
    batch = dict(data_samples=samples)
    with pytest.raises(FloatingPointError, match=f'Images: {expected};'):
        TerminateOnNaNHook().after_train_iter(runner, 0, batch, dict(loss=NAN))
