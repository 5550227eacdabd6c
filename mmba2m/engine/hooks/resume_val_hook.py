"""Makes up for the validation that a killed run has not finished."""

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import IterBasedTrainLoop

from mmba2m.registry import HOOKS

INFO = 'last_val'


@HOOKS.register_module()
class ResumeValHook(Hook):
    """Validates before a resumed run goes on, where that was due.

    MMEngine saves a checkpoint before it validates, and when resumed from it
    goes on with training. The validation in between would be lost, and with
    it the best checkpoint and the step of a scheduler that waits for the
    metric (``ReduceOnPlateauLR``). A finished one is run again as well,
    unless the checkpoint was saved after it, as those that become the best
    are. ``EarlyStoppingHook`` counts from the validations in the checkpoint.
    """

    # when CheckpointHook is ready
    priority = 'LOWEST'

    loop = None

    def before_train(self, runner):
        """Runs the validation that was due at the checkpoint."""
        self.loop = runner.train_loop
        if not runner.iter or runner.val_loop is None:
            return
        scores = runner.message_hub.log_scalars
        for hook in runner.hooks:
            name = f'val/{getattr(hook, "monitor", None)}'
            if isinstance(hook, EarlyStoppingHook) and name in scores:
                for score in scores[name].data[0]:
                    ends, _ = hook._check_stop_condition(score)
                    self.loop.stop_training |= ends
        self.loop._decide_current_val_interval()
        now, end = self._progress()
        due = now >= self.loop.val_begin and (
            now % self.loop.val_interval == 0 or now == end
        )
        if due and runner.message_hub.runtime_info.get(INFO, 0) < now:
            runner.val_loop.run()

    def before_val(self, runner):
        """Notes the validation in the checkpoint that may come of it."""
        if self.loop is not None:
            runner.message_hub.update_info(INFO, self._progress()[0])

    def _progress(self):
        """Epochs done and their total, or iterations, as the loop counts."""
        if isinstance(self.loop, IterBasedTrainLoop):
            return self.loop.iter, self.loop.max_iters
        return self.loop.epoch, self.loop.max_epochs
