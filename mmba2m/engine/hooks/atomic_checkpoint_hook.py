"""Checkpoints that are whole or not there, and none lost for the next."""

import os
import shutil
from pathlib import Path

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.utils import mkdir_or_exist

from mmba2m.checkpoints.checks import find_non_finite
from mmba2m.checkpoints.files import PART_SUFFIX, atomic_write
from mmba2m.registry import HOOKS

BACKEND = 'mmba2m.atomic'


@register_backend(BACKEND)
class AtomicBackend(LocalBackend):
    """A local folder whose files are whole; it only notes what is to go."""

    def __init__(self):
        self.outdated = []

    def put(self, obj, filepath):
        """Writes a file, and creates the folders that are missing."""
        mkdir_or_exist(os.path.dirname(filepath))
        with atomic_write(filepath) as stream:
            stream.write(obj)

    def remove(self, filepath):
        """Notes a file that :class:`AtomicCheckpointHook` is to remove."""
        self.outdated.append(filepath)

    rmtree = remove


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook for disks that fill up and runs that die.

    MMEngine writes a checkpoint in place, and deletes the oldest and the best
    one before. Here a checkpoint, and ``last_checkpoint``, has its name only
    when it is on disk, and outdated ones are removed after that. A save that
    fails ends the run with the file and the free space; what a killed run
    leaves half-written is removed when the next one starts training. The disk
    must hold one checkpoint more than ``max_keep_ckpts`` and the best one.
    Weights that are NaN or infinite, of any rank, end the run unsaved.

    Args:
        **kwargs: Those of MMEngine's; ``out_dir`` is a local folder.

    Raises:
        ValueError: If another storage is asked for: take MMEngine's hook.
        FloatingPointError: While it trains, for such weights.
    """

    def __init__(self, **kwargs):
        others = kwargs.get('backend_args') or 'file_client_args' in kwargs
        if others or '://' in str(kwargs.get('out_dir')):
            raise ValueError(
                'AtomicCheckpointHook saves to local folders; for other '
                "storage take type='CheckpointHook'"
            )
        kwargs['backend_args'] = dict(backend=BACKEND)
        super().__init__(**kwargs)

    def before_train(self, runner):
        """Removes what a killed run has left half-written."""
        super().before_train(runner)
        if not is_main_process():
            return
        for folder in {self.out_dir, runner.work_dir}:
            for part in Path(folder).glob(f'*{PART_SUFFIX}'):
                runner.logger.warning(f'{part}, half-written, is removed')
                part.unlink()

    def _save_checkpoint_with_step(self, runner, step, meta):
        """Saves a checkpoint, then points to it, then removes others."""
        _check_weights(runner)
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.filename_tmpl.format(self.keep_ckpt_ids[0])
                self.file_backend.remove(os.path.join(self.out_dir, oldest))
            self.keep_ckpt_ids.append(step)  # drops the oldest
            runner.message_hub.update_info(
                'keep_ckpt_ids', list(self.keep_ckpt_ids)
            )
        name = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            pointer = os.path.join(runner.work_dir, 'last_checkpoint')
            with atomic_write(pointer) as stream:
                stream.write(self.last_ckpt.encode())
        self._remove_outdated()

    def _save_best_checkpoint(self, runner, metrics):
        _check_weights(runner)
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self):
        kept = {
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        for path in self.file_backend.outdated:
            # a work dir that was copied names the files of the first one
            ours = os.path.dirname(path) == os.path.normpath(self.out_dir)
            ours = ours and path.endswith('.pth')
            if path in kept or not ours or not is_main_process():
                continue
            if os.path.isdir(path):  # DeepSpeed's
                shutil.rmtree(path)
            else:
                Path(path).unlink(missing_ok=True)
        self.file_backend.outdated.clear()


def _check_weights(runner):
    """Ends the run of all ranks, where one has weights that are not finite."""
    bad = find_non_finite(runner.model.state_dict())
    any_bad = torch.tensor(float(bool(bad)))
    all_reduce(any_bad, 'max')
    if any_bad:
        seen = [h.images for h in runner.hooks if hasattr(h, 'images')]
        raise FloatingPointError(
            f'no checkpoint is saved in iteration {runner.iter}: there are '
            f'{bad or "weights of another process that are NaN"}, as after a '
            f'step whose gradient was. Images: {"".join(seen) or "unknown"}'
        )
