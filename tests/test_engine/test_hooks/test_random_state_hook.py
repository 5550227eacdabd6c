"""Interrupted and resumed training against uninterrupted, bit for bit."""

import inspect

import pytest
from mmengine.runner import IterBasedTrainLoop
from toy_training import BY_ITER, ITER_BASED, SGD, run_ranks, train

from mmba2m.engine.runner import Runner

WORKERS = dict(num_workers=2, persistent_workers=False)
PERSISTENT = dict(num_workers=2, persistent_workers=True)
INFINITE = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
ASPECT_RATIO = dict(batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'))
FORWARD = dict(
    ITER_BASED,
    train_cfg=dict(ITER_BASED['train_cfg'], fast_forward_on_resume=True),
)
DRAWN = [
    dict(randomness=dict(seed=None)),
    dict(ITER_BASED, randomness=dict(seed=None, diff_rank_seed=True)),
]
ALONE = [{}]
# any number of workers draws the same
WORKERS_TOO = [PERSISTENT, {}, WORKERS, PERSISTENT]
slow = pytest.mark.slow
newer = pytest.mark.skipif(
    'fast_forward_on_resume'
    not in inspect.signature(IterBasedTrainLoop).parameters,
    reason='not in this MMEngine',
)


@pytest.mark.parametrize(
    ('loop', 'loader', 'stops', 'workers'),
    [
        (dict(default_hooks=BY_ITER), {}, [9], ALONE),
        (ITER_BASED, INFINITE, [8], ALONE),
        *(
            pytest.param(*case, WORKERS_TOO, marks=slow)
            for case in [
                # before the first checkpoint, the second, within the last
                ({}, {}, [4, 8, 15]),
                # after the first, in and at the end of the second epoch
                (dict(default_hooks=BY_ITER), {}, [1, 9, 12]),
                (ITER_BASED, {}, [1, 8, 13]),
                (ITER_BASED, INFINITE, [1, 8, 13]),
                (ITER_BASED, ASPECT_RATIO, [1, 8, 13]),
            ]
        ),
        pytest.param(FORWARD, INFINITE, [8], ALONE, marks=[slow, newer]),
        # the seed that the first part drew is the whole run's
        pytest.param(DRAWN[0], {}, [8], ALONE, marks=slow),
        pytest.param(DRAWN[1], INFINITE, [7], [WORKERS], marks=slow),
    ],
)
def test_interruptions_leave_no_trace(
    assert_resumes, loop, loader, stops, workers
):
    assert_resumes(*stops, workers=workers, loader=loader, **loop)


@slow
def test_mmengine_alone_draws_otherwise(assert_resumes):
    with pytest.raises(AssertionError, match='state_dict'):
        assert_resumes(8, hook=False)


def train_whole_and_parts(rank, folder):
    settings = dict(runner=Runner, launcher='pytorch', env_cfg={})
    train(folder / 'whole', **settings)
    train(folder / 'parts', 8, **settings)
    train(folder / 'parts', **settings)


@slow
def test_ranks_go_on_as_well_and_another_number_is_said(
    tmp_path, capfd, assert_same_checkpoints
):
    run_ranks(train_whole_and_parts, tmp_path)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert_same_checkpoints(whole / 'epoch_3.pth', parts / 'epoch_3.pth')
    message = '2 process(es) and 3 iterations an epoch, this one has 1 and 6'
    assert message not in ''.join(capfd.readouterr())
    (parts / 'last_checkpoint').write_text(str(parts / 'epoch_1.pth'))
    assert train(parts).epoch == 3
    assert message in ''.join(capfd.readouterr())


ACCUMULATED = dict(optim_wrapper=dict(SGD, accumulative_counts=4))


@slow
@pytest.mark.parametrize(
    ('before', 'after', 'message'),
    [
        (
            {},
            dict(loader=dict(batch_size=4)),
            '1 process(es) and 6 iterations an epoch, this one has 1 and 3',
        ),
        (dict(hook=False), {}, 'was written without this hook'),
        (ACCUMULATED, ACCUMULATED, 'those of the last 1 before the'),
    ],
    ids=['batch-size', 'no-hook', 'accumulation'],
)
def test_what_differs_after_all_is_said(
    tmp_path, capfd, before, after, message
):
    train(tmp_path, 9, default_hooks=BY_ITER, **before)
    assert message not in ''.join(capfd.readouterr())
    runner = train(tmp_path, default_hooks=BY_ITER, **after)
    assert message in ''.join(capfd.readouterr())
    assert runner.epoch == 3
