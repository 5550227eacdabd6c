"""Ends a run whose loss is NaN or infinite."""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from mmba2m.registry import HOOKS


@HOOKS.register_module()
class TerminateOnNaNHook(Hook):
    """Ends a run whose loss is NaN or infinite, and names the images.

    It looks at every iteration: MMEngine's log has waited for the losses by
    then, so this costs next to nothing, and no checkpoint is written after a
    bad one. Where one rank ends, all do: they share the broken weights.

    Mixed precision overflows now and then; its loss scaler skips the step,
    and the weights stay as they were.

    Args:
        patience: With a loss scaler, how many bad losses in a row end the
            run. Defaults to 50.

    Raises:
        FloatingPointError: At the iteration, with the losses and the paths of
            the images of this iteration and the one before.
    """

    def __init__(self, patience: int = 50):
        self.patience = patience
        self.in_a_row = 0
        self.images = ''

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        """Looks at the losses."""
        before, self.images = self.images, ', '.join(_names(data_batch))
        # of what has 'loss' in its name, MMEngine makes the sum
        bad = [
            f'{name} is {float(value)}'
            for name, value in outputs.items()
            if 'loss' in name and not torch.as_tensor(value).isfinite()
        ]
        self.in_a_row = self.in_a_row + 1 if bad else 0
        scaled = hasattr(runner.optim_wrapper, 'loss_scaler')
        ends = bool(bad) and self.in_a_row >= (self.patience if scaled else 1)
        any_ends = torch.tensor(float(ends))
        all_reduce(any_ends, 'max')
        if not any_ends:
            return
        bad = bad or ['the loss of another process is NaN or infinite']
        since = f' for {self.in_a_row} iterations' if scaled else ''
        raise FloatingPointError(
            f'iteration {runner.iter + 1}: {", ".join(bad)}{since}. '
            f'Images: {self.images or "unknown"}; '
            f'of the iteration before: {before or "none"}'
        )


def _names(data_batch):
    """Yields the paths of the images of a batch, or else their numbers."""
    known = isinstance(data_batch, dict)
    samples = (known and data_batch.get('data_samples')) or ()
    if isinstance(samples, dict):  # one list for each branch
        samples = [one for branch in samples.values() for one in branch]
    for sample in samples:
        for key in ('img_path', 'img_id', 'sample_idx'):
            if key in sample:
                yield str(sample.get(key))
                break
