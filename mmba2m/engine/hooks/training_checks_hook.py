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
# of parameter groups: not of the config, or of how it is computed
UNCOMPARED = {
    *('params', 'initial_lr', 'initial_momentum', 'foreach', 'maximize'),
    *('capturable', 'differentiable', 'fused', 'decoupled_weight_decay'),
    'param_names',
}
# what OneCycleLR leaves in them, whatever follows
LEFT = {'max_lr', 'min_lr', 'max_momentum', 'min_momentum'}
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
        changes += _compare_groups(
            runner.optim_wrapper.state_dict(), checkpoint.get('optimizer')
        )
        if changes:
            runner.logger.warning(
                'A resumed run keeps the schedule and the optimizer of its '
                'checkpoint, and they are not those of the config: '
                f'{"; ".join(changes)}. What the config has later does not '
                f'fire. {WAY_OUT}'
            )


def _compare_groups(new, saved):
    """Lists the settings that differ, each once."""
    if saved is None:
        return ['no optimizer: its state begins anew']
    new, saved = _list_groups(new), _list_groups(saved)
    if len(new) != len(saved) or any(
        now.keys() != old.keys() - (LEFT - now.keys())
        for now, old in zip(new, saved, strict=True)
    ):
        names = [sorted(set().union(*groups)) for groups in (saved, new)]
        raise ValueError(
            f'the checkpoint is of an optimizer with {", ".join(names[0])} '
            f'for {len(saved)} groups of parameters, and the config has '
            f'{", ".join(names[1])} for {len(new)}. {WAY_OUT}'
        )
    found = dict.fromkeys(filter(None, map(_describe, new, saved)))
    return [f'optimizer has {text}' for text in found]


def _list_groups(state):
    """What a config sets; schedulers keep that beside what they made of it."""
    states = [state] if 'param_groups' in state else state.values()
    return [
        {
            key: group.get(f'initial_{key}', value)
            for key, value in group.items()
            if key not in UNCOMPARED
        }
        for one in states
        for group in one['param_groups']
    ]


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
