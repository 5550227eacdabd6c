"""Warnings of what a training run does not show."""

from mmengine.hooks import Hook

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.registry import HOOKS

from .ba2m_anneal_hook import BA2MAnnealHook

# what moves while a run goes on
PROGRESS = (
    *('last_step', '_global_step', '_last_value', 'verbose'),
    *('cooldown_counter', 'best', 'num_bad_epochs'),
)


@HOOKS.register_module()
class TrainingChecksHook(Hook):
    """Warns of what else goes wrong in silence while a network trains.

    - A resumed run takes its schedulers from the checkpoint: what the config
      has changed, a longer schedule or another learning rate, has no effect.
    - BA²M whose strength was annealed in the checkpoint that training starts
      from does nothing, or less than the config says.
    - A detector that finds nothing has no metric, and no best checkpoint.
    """

    metrics = None

    def before_train(self, runner):
        """Looks for modules that are off."""
        if any(isinstance(hook, BA2MAnnealHook) for hook in runner.hooks):
            return
        off = [
            f'{name} ({module.strength.item():g})'
            for name, module in runner.model.named_modules()
            if isinstance(module, BA2M) and module.strength < 1
        ]
        if off:
            runner.logger.warning(
                'The weights that training starts from were annealed, and '
                'nothing sets the strength of BA²M again, which is below 1 '
                f'in {", ".join(off)}: at 0 the module does nothing. Add '
                'BA2MAnnealHook to custom_hooks, which sets it, or fill '
                "*.strength in the checkpoint's state_dict with 1"
            )

    def after_val_epoch(self, runner, metrics=None):
        """Keeps the metrics."""
        self.metrics = metrics

    def after_train(self, runner):
        """Looks whether the last validation found anything."""
        if self.metrics is not None and not self.metrics:
            runner.logger.warning(
                'The trained network finds nothing in any validation image, '
                'so there is no metric, and no best checkpoint for it'
            )

    def after_load_checkpoint(self, runner, checkpoint):
        """Compares the config's schedulers, not yet restored, with those."""
        if not runner.cfg.get('resume'):
            return
        new = _by_name(runner.param_schedulers)
        saved = _by_name(checkpoint.get('param_schedulers'))
        changes = [
            f'{name} ({type(new[name]).__name__}) has {text}'
            for name in new
            if name in saved
            and (text := _describe(new[name].state_dict(), saved[name]))
        ]
        if len(new) != len(saved):
            changes.append(
                f'the checkpoint has {len(saved)} schedulers instead of '
                f'{len(new)}'
            )
        if changes:
            runner.logger.warning(
                'A resumed run keeps the schedule of its checkpoint, and that '
                f'is not the one of the config: {"; ".join(changes)}. What '
                'the config has later does not fire. To train by the config, '
                'start a new run from the weights: load_from=CHECKPOINT, '
                'without --resume'
            )


def _by_name(schedulers):
    """Maps the place of each scheduler in the config to it."""
    if not isinstance(schedulers, dict):
        schedulers = {'': schedulers or []}
    return {
        'param_scheduler' + (f'.{name}' if name else '') + f'[{i}]': scheduler
        for name, group in schedulers.items()
        for i, scheduler in enumerate(group)
    }


def _describe(new, saved):
    return ', '.join(
        f'{"lr" if key == "base_values" else key} {old} instead of {now}'
        for key in new
        if key not in PROGRESS
        and not callable(new[key])
        and (old := _readable(saved.get(key, 'nothing')))
        != (now := _readable(new[key]))
    )


def _readable(value):
    if isinstance(value, dict):  # milestones are counted
        return sorted(value)
    if isinstance(value, list):  # one for each group of parameters
        return ', '.join(dict.fromkeys(map(str, value)))
    return value
