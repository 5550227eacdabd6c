import errno
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from toy_training import Ramp, Toy, fit, make_loader

from mmba2m.checkpoints.files import PART_SUFFIX, load_checkpoint
from mmba2m.checkpoints.resume import read_newest
from mmba2m.engine.hooks import AtomicCheckpointHook


def listing(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


class Log(Hook):
    """Remembers which checkpoints there are before each step."""

    def before_train(self, runner):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(listing(runner.work_dir))


SCORES = (0.1, 0.5, 0.3, 0.6, 0.6)


def train(work_dir, scores=SCORES, hook=(), by_epoch=True, log=(), **kwargs):
    data = Ramp((3,))
    checkpoint = dict(
        type='mmba2m.AtomicCheckpointHook',
        interval=1 if by_epoch else 2,
        by_epoch=by_epoch,
        max_keep_ckpts=2,
        save_best='a_acc',
    )
    kwargs['default_hooks'] = dict(checkpoint=dict(checkpoint, **dict(hook)))
    if not by_epoch:
        sampler = dict(type='InfiniteSampler', shuffle=False)
        kwargs['train_dataloader'] = make_loader(data, sampler=sampler)
        kwargs['train_cfg'] = dict(
            by_epoch=False, max_iters=2 * len(scores), val_interval=2
        )
    metrics = [dict(a_acc=score, b_acc=-score) for score in scores]
    model = Toy(nn.Linear(3, 1))
    return fit(work_dir, model, data, len(scores), log, metrics, **kwargs)


@pytest.mark.parametrize(
    'by_epoch, settings',
    [
        (True, dict()),
        (False, dict(max_keep_ckpts=1)),
        (True, dict(max_keep_ckpts=-1, save_best=None)),
        (False, dict(interval=4)),
        (True, dict(save_best=['a_acc', 'b_acc'])),
        (False, dict(save_best='auto', save_optimizer=False)),
    ],
)
def test_undisturbed_it_saves_what_mmengine_does(tmp_path, by_epoch, settings):
    logs = Log(), Log()
    theirs, ours = tmp_path / 'theirs', tmp_path / 'ours'
    torch.manual_seed(0)
    train(ours, hook=settings, by_epoch=by_epoch, log=logs[:1])
    torch.manual_seed(0)
    settings = dict(settings, type='CheckpointHook')
    train(theirs, hook=settings, by_epoch=by_epoch, log=logs[1:])
    assert logs[0].seen == logs[1].seen
    assert listing(theirs) == listing(ours) != []
    for name in listing(theirs):
        one, two = load_checkpoint(theirs / name), load_checkpoint(ours / name)
        assert one.keys() == two.keys()
        assert one['meta']['iter'] == two['meta']['iter']
        torch.testing.assert_close(
            one['state_dict'], two['state_dict'], rtol=0, atol=0
        )
        infos = [c['message_hub']['runtime_info'] for c in (one, two)]
        for key in ('best_score', 'keep_ckpt_ids'):
            assert infos[0].get(key) == infos[1].get(key)
    for folder in (theirs, ours):
        name = Path((folder / 'last_checkpoint').read_text()).name
        assert name == ('epoch_5.pth' if by_epoch else 'iter_10.pth')


def fill_disk(patch, left):
    """Lets so many files be flushed, and then none."""
    fsync, left = os.fsync, iter(range(left))

    def flush(descriptor):
        is_folder = os.fstat(descriptor).st_mode & 0o40000
        if not is_folder and next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(descriptor)

    patch.setattr(os, 'fsync', flush)


# five epochs and three of them the best: each with its pointer
FILES = 2 * (5 + 3) + 3


@pytest.mark.parametrize(
    'max_keep_ckpts, places',
    [
        (1, (0, 5, 12)),
        pytest.param(1, range(FILES + 1), marks=pytest.mark.slow),
        pytest.param(2, range(FILES + 1), marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_loses_nothing(
    tmp_path, monkeypatch, max_keep_ckpts, places
):
    """Whichever of the files of a run is the first not to fit."""
    for written in places:
        folder = tmp_path / str(written)
        is_full = pytest.raises(OSError, match='was not saved')
        with monkeypatch.context() as patch:
            fill_disk(patch, written)
            with is_full if written < FILES else nullcontext() as caught:
                train(folder, hook=dict(max_keep_ckpts=max_keep_ckpts))
        if caught:
            assert caught.value.errno == errno.ENOSPC
            assert 'No space left on device' in str(caught.value)
            assert str(folder) in str(caught.value)
        assert not list(folder.glob(f'*{PART_SUFFIX}'))
        check(folder, written, max_keep_ckpts)


def check(folder, written, max_keep_ckpts):
    """Looks whether what is left can be read, and is what it should be."""
    loaded = {name: load_checkpoint(folder / name) for name in listing(folder)}
    if not written:
        assert not loaded
        return
    newest, _ = read_newest(folder)
    epochs = [name for name in loaded if name.startswith('epoch')]
    assert Path(newest).name in epochs
    if written > 1:
        pointer = Path(folder, 'last_checkpoint').read_text()
        assert Path(pointer).name in epochs
    info = loaded[Path(newest).name]['message_hub']['runtime_info']
    if 'best_ckpt' in info:
        best = loaded[Path(info['best_ckpt']).name]
        # saved after its epoch, whose score it has
        assert info['best_score'] == SCORES[best['meta']['epoch'] - 1]
    assert len(epochs) >= min(info['epoch'] + 1, max_keep_ckpts)


def test_leftovers_of_a_killed_run_go_and_nothing_else(tmp_path):
    (tmp_path / 'notes').mkdir()
    for name in ('epoch_1.pth', 'last_checkpoint', 'best_acc_epoch_1.pth'):
        (tmp_path / f'{name}{PART_SUFFIX}').write_bytes(b'half')
    others = ['pretrained.pth', 'epoch_9.pth', 'a.txt', 'notes/x.part']
    for name in others:
        (tmp_path / name).write_bytes(b'mine')
    train(tmp_path)
    assert not list(tmp_path.glob(f'*{PART_SUFFIX}'))
    assert {(tmp_path / name).read_bytes() for name in others} == {b'mine'}
    assert (tmp_path / 'epoch_4.pth').is_file()


def test_a_better_validation_of_the_same_epoch_replaces_its_own(tmp_path):
    runner = train(tmp_path, SCORES[:2])
    (hook,) = (h for h in runner.hooks if isinstance(h, AtomicCheckpointHook))
    hook.after_val_epoch(runner, dict(a_acc=0.9, b_acc=0))
    best = load_checkpoint(tmp_path / 'best_a_acc_epoch_2.pth')
    assert best['message_hub']['runtime_info']['best_score'] == 0.9
    (tmp_path / 'notes').mkdir()  # a checkpoint may name any as its best
    hook.best_ckpt_path = str(tmp_path / 'notes')
    hook.after_val_epoch(runner, dict(a_acc=1, b_acc=0))
    assert (tmp_path / 'notes').exists()


class Spoil(Hook):
    """As after a step whose gradient is NaN, and its loss is not."""

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 4:
            runner.model.layers[0].weight.data[0, 1] = float('nan')


def test_weights_that_are_nan_are_not_saved(tmp_path):
    hooks = [Spoil(), dict(type='mmba2m.TerminateOnNaNHook')]
    with pytest.raises(
        FloatingPointError, match=r'are NaN.*layers\.0\.w.*Images: unknown'
    ):
        train(tmp_path, log=hooks, hook=dict(interval=1), by_epoch=False)
    assert 'iter_5.pth' not in listing(tmp_path)
    assert read_newest(tmp_path)[1]['meta']['iter'] == 4


def test_a_copied_work_dir_leaves_the_first_alone(tmp_path):
    first, copy = tmp_path / 'first', tmp_path / 'copy'
    train(first, SCORES[:2])
    names = listing(first)
    assert names == ['best_a_acc_epoch_2.pth', 'epoch_1.pth', 'epoch_2.pth']
    shutil.copytree(first, copy)
    # its two new validations: the second is the best of all
    path = str(copy / 'epoch_2.pth')
    train(copy, (0.3, 0.9, 0, 0), resume=True, load_from=path)
    assert listing(first) == names
    assert 'best_a_acc_epoch_4.pth' in listing(copy)


def test_checkpoints_may_be_elsewhere(tmp_path):
    train(tmp_path / 'run', hook=dict(out_dir=str(tmp_path / 'out')))
    assert not listing(tmp_path / 'run')
    assert listing(tmp_path / 'out/run') == [
        'best_a_acc_epoch_4.pth',
        'epoch_4.pth',
        'epoch_5.pth',
    ]
    last = str(tmp_path / 'out/run/epoch_5.pth')
    assert read_newest(tmp_path / 'run')[0] == last


def test_other_storage_is_refused():
    for other in (
        dict(out_dir='s3://bucket/runs'),
        dict(backend_args=dict(backend='petrel')),
        dict(file_client_args=dict(backend='disk')),
    ):
        with pytest.raises(ValueError, match="take type='CheckpointHook'"):
            AtomicCheckpointHook(interval=1, **other)
