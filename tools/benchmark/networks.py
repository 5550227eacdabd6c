"""The networks that are measured, and at which size."""

import inspect
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS

from mmba2m.models.backbones.slots import (
    find_attention,
    list_attentions,
)
from mmba2m.checkpoints.stock_config import strip_config

#: for each setting: the host and its plain backbone, the image size, the
#: batch in training and those in inference, and options of the modules
SETTINGS = dict(
    imagenet=dict(
        scope='mmpretrain',
        backbone=dict(type='ResNet', depth=50),
        size=(224, 224),
        train_batch=dict(cpu=8, cuda=64),
        inference_batches=(1, 32),
    ),
    # everything is trained, which is the most that attention can cost
    detection=dict(
        scope='mmdet',
        backbone=dict(type='ResNet', depth=50, norm_eval=False),
        size=(800, 1333),
        train_batch=dict(cpu=2, cuda=2),
        inference_batches=(1,),
    ),
    cifar=dict(
        scope='mmpretrain',
        backbone=dict(
            type='ResNet_CIFAR', depth=18, base_channels=16, stem_channels=16
        ),
        size=(32, 32),
        train_batch=dict(cpu=128, cuda=128),
        inference_batches=(1, 32),
        options=dict(reduction=4),  # the paper's for basic blocks
    ),
)
#: BA²M without work at inference, and taken out: nothing else to train
INFERENCE_ONLY = ('ba2m_identity', 'stripped')


def describe_network(name, setting):
    """Finds the config of a network.

    Args:
        name (str): 'plain', 'ba2m' (population weights at inference),
            'ba2m_with_cp', 'ba2m_identity', 'stripped' (the converted
            config), an attention module by type or abbreviation ('SE',
            'aw_conv'), or a config file, whose backbone is taken.
        setting (dict): One of :data:`SETTINGS`.

    Returns:
        tuple[dict, str]: Config of the backbone, and its scope.

    Raises:
        ValueError: If there is no such network.
    """
    if name.endswith('.py'):
        cfg = Config.fromfile(name)
        if 'backbone' not in cfg.get('model', {}):
            raise ValueError(f'{name} has no model.backbone')
        backbone = dict(cfg.model.backbone, init_cfg=None)
        return backbone, cfg.get('default_scope') or 'mmengine'
    scope, plain = setting['scope'], setting['backbone']
    if name == 'plain':
        return dict(plain), scope
    kind = plain['type']
    if name in ('ba2m', 'ba2m_with_cp', *INFERENCE_ONLY):
        options = dict(setting.get('options', {}))
        if name == 'ba2m_with_cp':
            options['with_cp'] = True
        if name == 'ba2m_identity':
            options['inference'] = 'identity'
        backbone = dict(plain, type=f'BA2M{kind}', ba2m_cfg=options)
        if name == 'stripped':
            cfg = Config(
                dict(default_scope=scope, model=dict(backbone=backbone))
            )
            backbone = strip_config(cfg)[0].model.backbone.to_dict()
        return backbone, scope
    attention = dict(type=_find_type(name))
    taken = inspect.signature(find_attention(attention['type'])).parameters
    for key, value in setting.get('options', {}).items():
        if key in taken:
            attention[key] = value
    if 'map_size' in taken:
        attention['input_size'] = setting['size']
    return dict(plain, type=f'Attention{kind}', attention=attention), scope


def _find_type(name):
    wanted = name.lower().replace('_', '')
    types = list_attentions()
    for candidate in types:
        abbreviation = getattr(find_attention(candidate), '_abbr_', '')
        for known in (candidate, abbreviation):
            if wanted == known.lower().replace('_', ''):
                return candidate
    raise ValueError(
        f'there is no network {name!r}; there are plain, ba2m, '
        f'ba2m_with_cp, {", ".join(INFERENCE_ONLY)}, the attention modules '
        f'{", ".join(types)}, and config files'
    )


def build_network(name, setting, options=None):
    """Builds a network, with PyTorch's initial weights.

    Args:
        name (str): As in :func:`describe_network`.
        setting (dict): One of :data:`SETTINGS`.
        options (dict | None): Arguments of the backbone that override those
            of the setting or file. Defaults to None.

    Returns:
        nn.Module: The backbone.
    """
    cfg, scope = describe_network(name, setting)
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.build(dict(cfg, **(options or {})))


def label_network(name):
    """Writes the name of a network as a table shows it."""
    labels = dict(
        plain='plain',
        ba2m='BA²M',
        ba2m_with_cp='BA²M, with_cp',
        ba2m_identity="BA²M, 'identity'",
        stripped='BA²M, stripped',
    )
    if name.endswith('.py'):
        return Path(name).stem
    return labels.get(name) or _find_type(name)
