import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from toy_training import fit, loader

from mmba2m.checkpoints.files import PART_SUFFIX, load_checkpoint
from mmba2m.checkpoints.resume import read_newest
from mmba2m.engine.hooks import AtomicCheckpointHook


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x, mode='loss'):
        x = self.fc(torch.stack(x))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x]


class Scores(BaseMetric):
    """Gives the next of some scores; at None, nothing was found."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        score = next(self.scores)
        return dict(a_acc=score, b_acc=-score)


class Log(Hook):
    """Remembers which checkpoints there are before each step."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(listing(runner.work_dir))


def listing(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


SCORES = (0.1, 0.5, 0.3, 0.6, 0.6)


def train(work_dir, scores=SCORES, hook=(), by_epoch=True, log=(), **kwargs):
    data = [dict(x=torch.full((3,), i + 1.0)) for i in range(4)]
    checkpoint = dict(
        dict(
            type='mmba2m.AtomicCheckpointHook',
            interval=1 if by_epoch else 2,
            by_epoch=by_epoch,
            max_keep_ckpts=2,
            save_best='a_acc',
        ),
        **dict(hook),
    )
    if not by_epoch:
        train_loader = loader(data)
        train_loader['sampler'] = dict(type='InfiniteSampler', shuffle=False)
        kwargs.update(
            train_dataloader=train_loader,
            train_cfg=dict(
                by_epoch=False, max_iters=2 * len(scores), val_interval=2
            ),
        )
    return fit(
        work_dir,
        Toy(),
        data,
        len(scores),
        log,
        val_dataloader=loader(data),
        val_evaluator=[Scores(scores)],
        val_cfg=dict(),
        default_hooks=dict(checkpoint=checkpoint),
        **kwargs,
    )


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
    for log, kind in zip(
        logs, ('CheckpointHook', 'mmba2m.AtomicCheckpointHook'), strict=True
    ):
        torch.manual_seed(0)
        hook = dict(settings, type=kind)
        train(tmp_path / kind, hook=hook, by_epoch=by_epoch, log=[log])
    theirs, ours = (tmp_path / 'CheckpointHook'), tmp_path / kind
    assert logs[0].seen == logs[1].seen
    assert listing(theirs) == listing(ours) != []
    for name in listing(theirs):
        one, two = load_checkpoint(theirs / name), load_checkpoint(ours / name)
        assert one.keys() == two.keys()
        assert one['meta']['iter'] == two['meta']['iter']
        for key, value in one['state_dict'].items():
            assert torch.equal(value, two['state_dict'][key])
        infos = [c['message_hub']['runtime_info'] for c in (one, two)]
        for key in ('best_score', 'keep_ckpt_ids'):
            assert infos[0].get(key) == infos[1].get(key)
    pointers = [path / 'last_checkpoint' for path in (theirs, ours)]
    names = {Path(pointer.read_text()).name for pointer in pointers}
    assert names == {'epoch_5.pth' if by_epoch else 'iter_10.pth'}


class FullDisk:
    """Lets so many files be flushed, and then none."""

    def __init__(self, monkeypatch, left):
        self.left = left
        self.fsync = os.fsync
        monkeypatch.setattr(os, 'fsync', self)

    def __call__(self, descriptor):
        if os.fstat(descriptor).st_mode & 0o40000:  # a folder
            return self.fsync(descriptor)
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.fsync(descriptor)


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
        disk = FullDisk(monkeypatch, written)
        try:
            train(folder, hook=dict(max_keep_ckpts=max_keep_ckpts))
            assert written == FILES
        except OSError as error:
            assert written < FILES
            assert error.errno == errno.ENOSPC
            assert 'No space left on device' in str(error)
            assert str(folder) in str(error)
            assert 'was not saved' in str(error)
        monkeypatch.setattr(os, 'fsync', disk.fsync)
        assert not list(folder.glob(f'*{PART_SUFFIX}'))
        check(folder, written, max_keep_ckpts)


def check(folder, written, max_keep_ckpts):
    """Everything that is left can be read, and is what it should be."""
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
    seen = info['epoch'] + 1
    assert len(epochs) >= min(seen, max_keep_ckpts)


def test_leftovers_of_a_killed_run_go_and_nothing_else(tmp_path):
    work_dir = tmp_path / 'run'
    (work_dir / 'notes').mkdir(parents=True)
    for name in ('epoch_1.pth', 'last_checkpoint', 'best_acc_epoch_1.pth'):
        (work_dir / f'{name}{PART_SUFFIX}').write_bytes(b'half')
    others = ['pretrained.pth', 'epoch_9.pth', 'a.txt', 'notes/x.part']
    for name in others:
        (work_dir / name).write_bytes(b'mine')
    train(work_dir)
    assert not list(work_dir.glob(f'*{PART_SUFFIX}'))
    for name in others:
        assert (work_dir / name).read_bytes() == b'mine'
    assert (work_dir / 'epoch_4.pth').is_file()


def test_a_better_validation_of_the_same_epoch_replaces_its_own(tmp_path):
    runner = train(tmp_path, SCORES[:2])
    (hook,) = (h for h in runner.hooks if isinstance(h, AtomicCheckpointHook))
    hook.after_val_epoch(runner, dict(a_acc=0.9, b_acc=0))
    best = load_checkpoint(tmp_path / 'best_a_acc_epoch_2.pth')
    assert best['message_hub']['runtime_info']['best_score'] == 0.9


def test_a_copied_work_dir_leaves_the_first_alone(tmp_path):
    first, copy = tmp_path / 'first', tmp_path / 'copy'
    train(first, SCORES[:2])
    names = listing(first)
    assert names == ['best_a_acc_epoch_2.pth', 'epoch_1.pth', 'epoch_2.pth']
    shutil.copytree(first, copy)
    # its two new validations: the second is the best of all
    train(
        copy,
        (0.3, 0.9, 0, 0),
        resume=True,
        load_from=str(copy / 'epoch_2.pth'),
    )
    assert listing(first) == names
    assert 'best_a_acc_epoch_4.pth' in listing(copy)


def test_checkpoints_may_be_elsewhere(tmp_path):
    train(tmp_path / 'run', hook=dict(out_dir=str(tmp_path / 'out')))
    assert listing(tmp_path / 'run') == []
    assert listing(tmp_path / 'out/run') == [
        'best_a_acc_epoch_4.pth',
        'epoch_4.pth',
        'epoch_5.pth',
    ]
    last = str(tmp_path / 'out/run/epoch_5.pth')
    assert read_newest(tmp_path / 'run')[0] == last


@pytest.mark.parametrize(
    'other',
    [
        dict(out_dir='s3://bucket/runs'),
        dict(backend_args=dict(backend='petrel')),
        dict(file_client_args=dict(backend='disk')),
    ],
)
def test_other_storage_is_refused(other):
    with pytest.raises(ValueError, match="take type='CheckpointHook'"):
        AtomicCheckpointHook(interval=1, **other)
