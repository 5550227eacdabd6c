from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.structures import BaseDataElement
from torch import nn
from toy_training import fit

from mmba2m.engine.hooks import TerminateOnNaNHook

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


def train(tmp_path, values, optim_wrapper=None, patience=50):
    """Trains on batches of two, and returns the runner."""
    data = [
        dict(
            inputs=torch.tensor([float(value)]),
            data_samples=BaseDataElement(metainfo=dict(img_path=f'{i}.jpg')),
        )
        for i, value in enumerate(values)
    ]
    return fit(
        tmp_path,
        Toy(),
        data,
        hooks=[dict(type='mmba2m.TerminateOnNaNHook', patience=patience)],
        optim_wrapper=optim_wrapper
        or dict(optimizer=dict(type='SGD', lr=0.1), clip_grad={'max_norm': 1}),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)
        ),
    )


def test_finite_losses_train_on(tmp_path):
    assert train(tmp_path, range(6)).iter == 3


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


needs_cpu_scaler = pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'),
    reason='this torch scales losses on GPUs only',
)


def scaled(init_scale=1.0):
    optimizer = dict(type='SGD', lr=0.1)
    return dict(type=Scaled, optimizer=optimizer, init_scale=init_scale)


def weights(runner):
    return torch.cat([p.detach().ravel() for p in runner.model.parameters()])


@needs_cpu_scaler
def test_skipped_steps_of_a_scaler_do_not_end_the_run(tmp_path):
    values = [1, 2, 3, 'nan', 5, 'inf', 7, 8]
    runner = train(tmp_path, values, scaled(), patience=3)
    assert runner.iter == 4
    assert weights(runner).isfinite().all()


@needs_cpu_scaler
def test_overflowing_gradients_do_not_end_the_run(tmp_path):
    runner = train(tmp_path, range(1, 21), scaled(2.0**127), patience=1)
    assert runner.iter == 10
    # a skipped step halves the scale
    assert 0 < runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127
    assert weights(runner).isfinite().all()


@needs_cpu_scaler
def test_lasting_nan_ends_a_run_with_a_scaler(tmp_path):
    values = [1, 2, 'nan', 4, 5, 6, *['nan'] * 20]
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, values, scaled(), patience=4)
    assert str(caught.value).startswith(
        'iteration 7: loss is nan, loss_data is nan for 4 iterations. '
        'Images: 12.jpg, 13.jpg;'
    )


def test_a_good_loss_between_starts_the_count_anew():
    hook = TerminateOnNaNHook(patience=3)
    runner = SimpleNamespace(
        iter=0, optim_wrapper=SimpleNamespace(loss_scaler=None)
    )
    batch = dict(data_samples=[])
    for loss in (NAN, NAN, 1.0, NAN, torch.tensor(NAN)):
        hook.after_train_iter(runner, 0, batch, dict(loss=loss))
    with pytest.raises(FloatingPointError, match='for 3 iterations'):
        hook.after_train_iter(runner, 0, batch, dict(loss=float('inf')))


def sample(**metainfo):
    return BaseDataElement(metainfo=metainfo)


@pytest.mark.parametrize(
    'samples, expected',
    [
        ([sample(img_path='a.jpg', img_id=1), sample(img_id=2)], 'a.jpg, 2'),
        ([sample(sample_idx=7), sample()], '7'),
        (
            dict(sup=[sample(img_path='a')], unsup=[sample(img_path='b')]),
            'a, b',
        ),
        ([], 'unknown'),
        (None, 'unknown'),
    ],
)
def test_images_of_any_batch_are_named(samples, expected):
    runner = SimpleNamespace(iter=0, optim_wrapper=None)
    with pytest.raises(FloatingPointError) as caught:
        TerminateOnNaNHook().after_train_iter(
            runner, 0, dict(data_samples=samples), dict(loss=NAN)
        )
    assert f'Images: {expected};' in str(caught.value)
