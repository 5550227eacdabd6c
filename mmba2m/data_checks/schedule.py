"""Checks of batches and warm-up against the number of images."""

import math
from collections.abc import Iterator

from mmengine.dist import get_world_size

from .common import Finding
from .datasets import name_type


def check_schedule(
    cfg: dict, loader: dict, items: int, training: bool
) -> Iterator[Finding]:
    """Tells an epoch without a batch, and a warm-up that does not end.

    ``items`` are the images of an epoch.
    """
    if name_type(loader.get('sampler')).endswith('InfiniteSampler'):
        return
    share = math.ceil(items / get_world_size())
    size = loader.get('batch_size', 1)
    parts = loader, loader.get('batch_sampler') or {}
    rest = 0 if any(part.get('drop_last') for part in parts) else size - 1
    batches = (share + rest) // size
    if not batches:
        yield ValueError(
            f'drop_last leaves no batch: batch_size is {size}, and there are '
            f'{share} images'
        )
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not batches or not training or not epochs:
        return
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    falls = [
        milestone * batches
        for scheduler in schedulers
        if scheduler.get('by_epoch', True)
        for milestone in list(scheduler.get('milestones') or ())[:1]
    ]
    full = min([epochs * batches, *falls])
    for index, scheduler in enumerate(schedulers):
        steps = not scheduler.get('by_epoch', True)
        end = scheduler.get('end', 0)
        if 'start_factor' in scheduler and steps and end >= full:
            yield (
                f'the warm-up lasts {end} iterations, but the {items} images '
                f'make {batches} in an epoch, and after {full} the training '
                'ends or its learning rate falls: set '
                f'param_scheduler.{index}.end to {max(1, full // 10)}'
            )
