"""Anneals the strength of BA²M to 0, so that inference needs no module."""

from mmengine.hooks import EMAHook, Hook

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.registry import HOOKS


@HOOKS.register_module()
class BA2MAnnealHook(Hook):
    """Takes the strength λ of every BA²M module linearly from 1 to 0.

    With ``w ← 1 + λ(w − 1)`` the network ends up trained for the module's
    absence: at λ = 0 it *is* the plain network, and the weights of the module
    can be dropped. λ is set before each iteration, and at the end of training
    to its final value; it lives in a buffer of the module, so a checkpoint
    keeps it, and a resumed run takes it from the iteration.

    Args:
        begin: Fraction of the run at which λ leaves 1, in [0, 1).
            Defaults to 0.5.
        end: Fraction of the run from which λ is 0, in (begin, 1].
            Defaults to 0.8.

    Raises:
        ValueError: If not 0 <= begin < end <= 1, or, when training starts,
            if the model has no BA²M module.
    """

    # before EMAHook and CheckpointHook, which read the buffer
    priority = 'ABOVE_NORMAL'

    def __init__(self, begin: float = 0.5, end: float = 0.8):
        if not 0 <= begin < end <= 1:
            raise ValueError(
                'BA2MAnnealHook needs 0 <= begin < end <= 1, '
                f'got begin={begin} and end={end}'
            )
        self.begin = begin
        self.end = end

    def before_train(self, runner):
        """Sets λ for the first iteration, also of a resumed run."""
        models = [runner.model]
        # an average over the buffers would lag behind
        models += [h.ema_model for h in runner.hooks if isinstance(h, EMAHook)]
        self.modules = [
            module
            for model in models
            for module in model.modules()
            if isinstance(module, BA2M)
        ]
        if not self.modules:
            raise ValueError('BA2MAnnealHook: the model has no BA2M module')
        self._set_strength(runner.iter / runner.max_iters)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        """Sets λ for the next iteration."""
        self._set_strength((runner.iter + 1) / runner.max_iters)

    def _set_strength(self, progress):
        strength = (self.end - progress) / (self.end - self.begin)
        for module in self.modules:
            module.strength.fill_(min(max(strength, 0.0), 1.0))
