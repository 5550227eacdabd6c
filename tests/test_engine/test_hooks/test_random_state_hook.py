"""Interrupted and resumed training against uninterrupted, bit for bit."""

import inspect
import shutil
from itertools import cycle

import pytest
from mmengine.runner import IterBasedTrainLoop
from torch import multiprocessing
from toy_training import (
    BY_ITER,
    EPOCH,
    ITER_BASED,
    train,
    train_on_two_ranks,
)

WORKERS = dict(num_workers=2, persistent_workers=False)
PERSISTENT = dict(num_workers=2, persistent_workers=True)
INFINITE = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
ASPECT_RATIO = dict(batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'))


def last_checkpoint(work_dir):
    names = [f'iter_{3 * EPOCH}.pth', 'epoch_3.pth']
    (path,) = [work_dir / name for name in names if (work_dir / name).exists()]
    return path


ALONE = [{}]
# any number of workers draws the same
WORKERS_TOO = [PERSISTENT, {}, WORKERS, PERSISTENT]
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ('loop', 'loader', 'stops', 'workers'),
    [
        (dict(default_hooks=BY_ITER), {}, [9], ALONE),
        (ITER_BASED, INFINITE, [8], ALONE),
        # before the first checkpoint, before the second, within the last
        pytest.param({}, {}, [4, 8, 15], WORKERS_TOO, marks=slow),
        # after the first, in and at the end of the second epoch
        pytest.param(
            *(dict(default_hooks=BY_ITER), {}, [1, 9, 12], WORKERS_TOO),
            marks=slow,
        ),
        pytest.param(ITER_BASED, {}, [1, 8, 13], WORKERS_TOO, marks=slow),
        pytest.param(
            *(ITER_BASED, INFINITE, [1, 8, 13], WORKERS_TOO), marks=slow
        ),
        pytest.param(
            *(ITER_BASED, ASPECT_RATIO, [1, 8, 13], WORKERS_TOO), marks=slow
        ),
    ],
)
def test_interruptions_leave_no_trace(
    tmp_path, assert_same_checkpoints, loop, loader, stops, workers
):
    train(tmp_path / 'whole', loader=dict(loader, **workers[0]), **loop)
    for stop, own in zip([*stops, None], cycle(workers), strict=False):
        train(tmp_path / 'parts', stop, loader=loader | own, **loop)
    assert_same_checkpoints(
        last_checkpoint(tmp_path / 'whole'),
        last_checkpoint(tmp_path / 'parts'),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('loop', 'loader', 'diff_rank_seed'),
    [({}, {}, False), (ITER_BASED, INFINITE | WORKERS, True)],
)
def test_seed_that_was_drawn_is_taken_from_the_checkpoint(
    tmp_path, assert_same_checkpoints, loop, loader, diff_rank_seed
):
    settings = dict(
        loop,
        loader=loader,
        randomness=dict(diff_rank_seed=diff_rank_seed, seed=None),
    )
    train(tmp_path / 'whole', **settings)
    name = 'iter_7.pth' if loop else 'epoch_1.pth'
    (tmp_path / 'rest').mkdir()
    shutil.copy(tmp_path / 'whole' / name, tmp_path / 'rest')
    (tmp_path / 'rest/last_checkpoint').write_text(
        str(tmp_path / 'rest' / name)
    )
    train(tmp_path / 'rest', **settings)
    assert_same_checkpoints(
        last_checkpoint(tmp_path / 'whole'),
        last_checkpoint(tmp_path / 'rest'),
    )


@pytest.mark.slow
def test_mmengine_alone_draws_otherwise(tmp_path, assert_same_checkpoints):
    train(tmp_path / 'whole', hook=False)
    train(tmp_path / 'parts', 8, hook=False)
    train(tmp_path / 'parts', hook=False)
    with pytest.raises(AssertionError, match='state_dict'):
        assert_same_checkpoints(
            last_checkpoint(tmp_path / 'whole'),
            last_checkpoint(tmp_path / 'parts'),
        )


@pytest.mark.slow
def test_ranks_go_on_as_well_and_another_number_is_said(
    tmp_path, capfd, assert_same_checkpoints
):
    multiprocessing.start_processes(
        train_on_two_ranks, (str(tmp_path),), 2, start_method='forkserver'
    )
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert_same_checkpoints(whole / 'epoch_3.pth', parts / 'epoch_3.pth')
    message = '2 process(es) and 3 iterations an epoch, this one has 1 and 6'
    assert message not in ''.join(capfd.readouterr())
    (parts / 'last_checkpoint').write_text(str(parts / 'epoch_1.pth'))
    assert train(parts).epoch == 3
    assert message in ''.join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.skipif(
    'fast_forward_on_resume'
    not in inspect.signature(IterBasedTrainLoop).parameters,
    reason='not in this MMEngine',
)
def test_fast_forward_on_resume_changes_nothing(
    tmp_path, assert_same_checkpoints
):
    loop = dict(ITER_BASED['train_cfg'], fast_forward_on_resume=True)
    settings = dict(ITER_BASED, train_cfg=loop, loader=INFINITE)
    train(tmp_path / 'whole', **settings)
    train(tmp_path / 'parts', 8, **settings)
    train(tmp_path / 'parts', **settings)
    assert_same_checkpoints(
        last_checkpoint(tmp_path / 'whole'),
        last_checkpoint(tmp_path / 'parts'),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('before', 'after', 'message'),
    [
        (
            {},
            dict(loader=dict(batch_size=4)),
            '1 process(es) and 6 iterations an epoch, this one has 1 and 3',
        ),
        (dict(hook=False), {}, 'was written without this hook'),
        (
            dict(optim_wrapper=dict(accumulative_counts=4)),
            dict(optim_wrapper=dict(accumulative_counts=4)),
            'those of the last 1 before the checkpoint',
        ),
    ],
    ids=['batch-size', 'no-hook', 'accumulation'],
)
def test_what_differs_after_all_is_said(
    tmp_path, capfd, before, after, message
):
    for settings in (before, after):
        if 'optim_wrapper' in settings:
            settings['optim_wrapper']['optimizer'] = dict(type='SGD', lr=0.1)
    train(tmp_path, 9, default_hooks=BY_ITER, **before)
    assert message not in ''.join(capfd.readouterr())
    runner = train(tmp_path, default_hooks=BY_ITER, **after)
    assert message in ''.join(capfd.readouterr())
    assert runner.epoch == 3
