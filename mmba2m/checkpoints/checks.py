"""Refuses checkpoints that do not fit, which MMEngine loads with a warning."""

import logging
from pathlib import Path

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, PretrainedInit, is_model_wrapper
from torch import nn

from .files import get_weights, load_checkpoint


def check_checkpoint(
    model: nn.Module, checkpoint: dict, path: str | Path, strict: bool
) -> None:
    """Compares names and shapes of a checkpoint with those of a model.

    Args:
        model: The model, wrapped or not.
        checkpoint: What was read: a checkpoint, or only its state dict.
        path: Where it was read from, for what is said.
        strict: Whether both must agree. If not, as where training
            starts from another task, what the model has anew is fine (heads,
            BA²M), but the backbone's weights must fit.

    Raises:
        ValueError: If it does not fit, with the first names that differ, or
            is not finite.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    loaded = read_weights(checkpoint, path)
    own = model.state_dict()

    differences = compare_states(own, loaded)
    if not strict:
        differences = {
            kind: [t for t in differences[kind] if t.startswith('backbone.')]
            for kind in ('of another shape', 'missing')
        }
        differences['missing'] = [
            key for key in differences['missing'] if 'ba2m' not in key
        ]
    problems = describe_differences(differences)
    if problems:
        raise ValueError(
            f'{path} is a checkpoint of another network than the config: '
            f'of its weights {problems}'
        )
    print_log(
        f'{path} fits: {len(set(own) & set(loaded))} of {len(own)} weights',
        'current',
    )


def read_weights(checkpoint: dict, path: str | Path) -> dict:
    """Finds the weights in a checkpoint, as ``get_weights`` does.

    Args:
        checkpoint: What was read.
        path: Where it was read from, for messages.

    Raises:
        ValueError: If there are none, or some are NaN or infinite.
    """
    try:
        weights = get_weights(checkpoint)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    if broken := find_non_finite(weights):
        raise ValueError(f'{path} has {broken}')
    return weights


def compare_states(own: dict, loaded: dict) -> dict[str, list[str]]:
    """Compares the names and shapes of two state dicts.

    Args:
        own: Of the network.
        loaded: What is to be loaded into it.

    Returns:
        What is 'of another shape' (names with both shapes), 'missing' and
        'unexpected' in ``loaded``.
    """
    return {
        'of another shape': [
            f'{key} is {tuple(loaded[key].shape)}, not {tuple(own[key].shape)}'
            for key in own
            if key in loaded and loaded[key].shape != own[key].shape
        ],
        'missing': [key for key in own if key not in loaded],
        'unexpected': [key for key in loaded if key not in own],
    }


def find_non_finite(weights: dict) -> str:
    """Names the weights that are NaN or infinite somewhere, or gives ''."""
    names = [
        key
        for key, value in weights.items()
        # several times as fast as isfinite()
        if value.is_floating_point() and (value * 0).sum() != 0
    ]
    return describe_differences({'weights that are NaN or infinite': names})


def describe_differences(differences: dict[str, list[str]]) -> str:
    """Puts what :func:`compare_states` found into words, or ''."""
    return '; '.join(
        f'{len(keys)} {what}: {", ".join(keys[:3])}'
        + (', …' if len(keys) > 3 else '')
        for what, keys in differences.items()
        if keys
    )


def check_pretrained(model: nn.Module) -> dict[str, dict]:
    """Checks what every ``init_cfg=dict(type='Pretrained')`` will load.

    MMEngine only warns where the names do not match, as where ``prefix`` is
    missing, and trains from scratch.

    Args:
        model: The model, wrapped or not, with its weights not initialized
            yet.

    Returns:
        What was read, by the name of the file.

    Raises:
        ValueError: If less than half of a module's weights would be loaded,
            BA²M's own aside. If some, it is a warning.
        FileNotFoundError: If there is no such file.
    """
    read = {}
    for name, module in model.named_modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        if isinstance(init_cfgs, dict):
            init_cfgs = [init_cfgs]
        for init_cfg in init_cfgs:
            if init_cfg['type'] in ('Pretrained', PretrainedInit):
                path = init_cfg['checkpoint']
                if path not in read:
                    read[path] = load_checkpoint(path)
                _check_pretrained(
                    name or 'model', module, init_cfg, get_weights(read[path])
                )
    return read


def _check_pretrained(name, module, init_cfg, loaded):
    path, prefix = init_cfg['checkpoint'], init_cfg.get('prefix') or ''
    prefix = prefix and prefix.rstrip('.') + '.'
    own = {
        key: value
        for key, value in module.state_dict().items()
        if 'ba2m' not in key and not key.endswith('num_batches_tracked')
    }
    differences = compare_states(
        own,
        {
            key.removeprefix(prefix): value
            for key, value in loaded.items()
            if key.startswith(prefix)
        },
    )
    differences['unexpected'] = []  # other parts of that network
    lost = sum(map(len, differences.values()))
    if not lost:
        return
    problem = (
        f'{name}: init_cfg loads {len(own) - lost} of {len(own)} weights from '
        f'{path} with prefix={prefix!r}: {describe_differences(differences)}'
    )
    if lost > len(own) / 2:
        key = next(iter(own))
        others = [
            other.removesuffix(key)
            for other in loaded
            if other.endswith('.' + key) or other == key
        ]
        if others and others[0] != prefix:
            problem += f". Did you mean prefix='{others[0]}'?"
        raise ValueError(problem)
    print_log(problem, 'current', logging.WARNING)
