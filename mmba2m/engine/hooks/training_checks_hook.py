"""Warnings of what a training run does not show."""

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.registry import HOOKS

from .ba2m_anneal_hook import BA2MAnnealHook

# what moves while a run goes on
PROGRESS = (
    *('last_step', '_global_step', '_last_value', 'verbose'),
    *('cooldown_counter', 'best', 'num_bad_epochs'),
)
# of parameter groups: not of the config, or of how it is computed
UNCOMPARED = {
    *('params', 'initial_lr', 'initial_momentum', 'foreach', 'maximize'),
    *('capturable', 'differentiable', 'fused', 'decoupled_weight_decay'),
    'param_names',
}
WAY_OUT = (
    'To train by the config, start a new run from the weights: '
    'load_from=CHECKPOINT, without --resume'
)


@HOOKS.register_module()
class TrainingChecksHook(Hook):
    """Warns of what else goes wrong in silence while a network trains.

    - A resumed run takes its schedulers and the settings of its optimizer
      from the checkpoint: what the config has changed, a longer schedule or
      another weight decay, has no effect. Another optimizer is refused.
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
        """Compares what the config says with what is about to be restored.

        Raises:
            ValueError: If the state is of another optimizer.
        """
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
        changes += _compare_optimizers(runner, checkpoint.get('optimizer'))
        if changes:
            runner.logger.warning(
                'A resumed run keeps the schedule and the optimizer of its '
                'checkpoint, and they are not those of the config: '
                f'{"; ".join(changes)}. What the config has later does not '
                f'fire. {WAY_OUT}'
            )


def _compare_optimizers(runner, saved):
    """Yields which settings differ, by name and group of parameters."""
    if saved is None:
        yield 'no state of an optimizer instead of one, so it starts anew'
        return
    wrapper = runner.optim_wrapper
    several = isinstance(wrapper, OptimWrapperDict)
    for name, one in wrapper.items() if several else [('', wrapper)]:
        state = saved.get(name, {}) if several else saved
        own = one.state_dict()['param_groups']
        groups = state.get('param_groups') or [{}]
        keys, others = (set(group[0]) - UNCOMPARED for group in (own, groups))
        if keys != others or len(own) != len(groups):
            raise ValueError(
                'the checkpoint is of another optimizer: its '
                f'{len(groups)} groups of parameters have '
                f'{", ".join(sorted(others - keys)) or "the same"} instead of '
                f'{", ".join(sorted(keys - others)) or "settings"} in '
                f'{len(own)}. {WAY_OUT}'
            )
        texts = map(_describe, map(_settings, own), map(_settings, groups))
        for text in dict.fromkeys(filter(None, texts)):
            yield f'optimizer{name and "."}{name} has {text}'


def _settings(group):
    """What the config sets; schedulers keep that beside what they made."""
    return {
        key: group.get(f'initial_{key}', value)
        for key, value in group.items()
        if key not in UNCOMPARED
    }


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
