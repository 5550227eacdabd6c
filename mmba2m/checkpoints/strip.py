"""Takes out of a checkpoint what only its training needed."""

from copy import deepcopy

from mmengine.config import Config
from mmengine.registry import MODELS

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.heads.base import TRAINING_ONLY

from .checks import compare_states, describe_differences
from .embedded_config import read_values, walk
from .files import get_weights
from .safe_load import no_pickles
from .stock_config import strip_config

_STATES = ('state_dict', 'ema_state_dict')


def find_ba2m(weights: dict) -> dict[str, list[str]]:
    """Finds the BA²M modules in a state dict by what their state holds.

    Args:
        weights: A state dict.

    Returns:
        Name of each module, and all its keys.

    Raises:
        ValueError: If a module holds what BA²M has not.
    """
    own = BA2M(1, reduction=1)
    parts = {key.split('.')[0] for key in own.state_dict()}
    buffers = [name for name, _ in own.named_buffers(recurse=False)]
    found = {}
    for key in weights:
        name = key.rpartition('.')[0]
        if any(f'{name}.{buffer}' not in weights for buffer in buffers):
            continue
        found.setdefault(
            name, [k for k in weights if k.startswith(f'{name}.')]
        )
    for name, keys in found.items():
        for key in keys:
            if key[len(name) + 1 :].split('.')[0] not in parts:
                raise ValueError(f'{key} is of no BA2M module')
    return found


def strip_checkpoint(
    checkpoint: dict, cfg: Config, force: bool = False
) -> tuple[dict, Config, list[str]]:
    """Turns a checkpoint with BA²M into one of the stock network.

    With a strength of 0 the module multiplies by exactly 1, so the stock
    network predicts the same, bit for bit; what heads have to train across
    the batch is not used then. Kept are the weights (and those beside an
    average of them), and ``meta``, with the stock config. What a resumed
    training needs is dropped: the optimizer's state belongs to parameters
    that vanish.

    Args:
        checkpoint: A checkpoint of a detector or classifier, or only
            its state dict. It stays as it is.
        cfg: Its config.
        force: Whether a network that was not annealed is stripped as
            well. Defaults to False.

    Returns:
        The checkpoint, its config, and what was done.

    Raises:
        ValueError: If there is neither in it, BA²M was not annealed, or what
            is left is not the network of the stock config.
    """
    weights = get_weights(checkpoint)
    if not find_ba2m(weights) and not _find_training_only(weights):
        raise ValueError(
            f'there is no BA2M module in it, and no {", ".join(TRAINING_ONLY)}'
        )
    stripped = dict(meta=dict(checkpoint.get('meta') or {}))
    report = []
    for key in _STATES:
        state = weights if key == 'state_dict' else checkpoint.get(key)
        if state is None:
            continue
        modules = find_ba2m(state)
        if not force:
            _check_annealed(state, modules, cfg)
        others = _find_training_only(state)
        gone = {*others}.union(*modules.values())
        stripped[key] = {k: v for k, v in state.items() if k not in gone}
        what = [f'{len(modules)} BA2M modules'] * bool(modules)
        what += sorted(set(others.values()))
        report.append(
            f'{key}: without {", ".join(what)} ({len(gone)} entries), '
            f'{len(stripped[key])} entries stay'
        )
    dropped = [key for key in checkpoint if key not in stripped]
    if dropped and 'state_dict' in checkpoint:
        report.append(
            f'dropped, so it can be loaded but not resumed: '
            f'{", ".join(dropped)}'
        )
    stock, changes, left = strip_config(cfg)
    report += changes
    _check_fits(stock, stripped['state_dict'])
    if left:
        report.append(f'it still needs mmba2m, for {", ".join(left)}')
    stripped['meta']['cfg'] = stock.pretty_text
    # MMEngine writes keys as they are, with what they may hold
    if read_values(stripped['meta']['cfg']).to_dict() != stock.to_dict():
        raise ValueError('its config cannot be written as text')
    return stripped, stock, report


def _find_training_only(state):
    """Maps keys to the name of the child that they are of."""
    parts = ((key, {*key.split('.')} & {*TRAINING_ONLY}) for key in state)
    return {key: found.pop() for key, found in parts if found}


def _check_annealed(state, modules, cfg):
    strengths = {name: state[f'{name}.strength'].item() for name in modules}
    listed = [
        f'{name} {value:g}' for name, value in strengths.items() if value
    ]
    if not listed:
        return
    types = ((str(node.get('type')), node) for _, node in walk(cfg.model))
    options = [
        node if name.endswith('BA2M') else node.get('ba2m_cfg') or {}
        for name, node in types
        if 'BA2M' in name
    ]
    message = (
        f'{len(listed)} of {len(modules)} BA2M modules still have a strength '
        f'(0 is annealed): {", ".join(listed[:4])}'
        + (', …' if len(listed) > 4 else '')
        + '. Without them the network meets features it was not trained '
        'with; docs/converters.md has what that costs.'
    )
    if not all(option.get('scale_by_batch', True) for option in options):
        message += (
            ' With scale_by_batch=False, as here, they are as many times '
            'too large as a batch had images, and the output is useless.'
        )
    if {option.get('inference') for option in options} == {'identity'}:
        message += (
            " Here inference='identity' does without them already, so "
            'stripping changes no prediction.'
        )
    raise ValueError(
        f'{message} Train the end with BA2MAnnealHook, or strip it all the '
        'same with --force'
    )


def _check_fits(cfg, weights):
    """Builds the stock network and compares its names and shapes."""
    scope = cfg.get('default_scope') or 'mmengine'
    with MODELS.switch_scope_and_registry(scope) as registry, no_pickles():
        # DETR's head writes a tensor into its config
        network = registry.build(deepcopy(cfg.model))
    problems = describe_differences(
        compare_states(network.state_dict(), weights)
    )
    if problems:
        raise ValueError(
            'stripped, it is not the network of the stock config: of its '
            f'weights {problems}'
        )
