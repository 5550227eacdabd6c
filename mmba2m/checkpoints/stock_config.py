"""Turns a config with BA²M into the host's own."""

import copy
import inspect

from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mmba2m.config_files import list_registries, path_of
from mmba2m.models import heads
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.attentions.names import find_attention
from mmba2m.models.backbones import AttentionBackbone
from mmba2m.models.backbones.ba2m_stages import BA2MStagesMixin
from mmba2m.models.backbones.slots import AttentionMixin, to_entries
from mmba2m.models.heads.base import TRAINING_ONLY
from mmba2m.models.host_classes import find_class
from mmba2m.models.necks import AttentionMaps

from .embedded_config import walk

_PACKAGE = 'mmba2m'


def strip_config(cfg: Config) -> tuple[Config, list[str], list[str]]:
    """Takes BA²M out of a config, and with it the need for this package.

    Plugins and ``attention`` that are BA²M go, and backbones with BA²M become
    what they extend: the host's, or with other ``attention`` this package's.
    Heads that train across the batch become the host's.
    This package's Runner and hooks are for training and go; its metrics
    become the host's where those take their options.

    Args:
        cfg: A config with BA²M; it stays as it is.

    Returns:
        The stock config, what was changed, and what of this package it still
        names.

    Raises:
        ValueError: If a backbone has an option that the host's has not.
    """
    cfg = copy.deepcopy(cfg)
    scope = cfg.get('default_scope')
    own, names = _registered(scope or 'mmengine')
    changes = []

    if str(cfg.get('runner_type')).startswith(f'{_PACKAGE}.'):
        changes.append(f'no runner_type={cfg.pop("runner_type")}')
    if cfg.get('resume'):  # the training went on from a file that is not here
        cfg.merge_from_dict(dict(resume=False, load_from=None))
        changes.append('no resume=True')
    for hook in _drop(cfg, 'custom_hooks', lambda hook: _find(own, hook)):
        changes.append(f'custom_hooks: no {hook["type"]}')
    default = cfg.get('default_hooks') or {}
    for name, hook in list(default.items()):
        if _find(own, hook) and _find_stock(own, names, hook) is None:
            changes.append(
                f'default_hooks.{name}: no {default.pop(name)["type"]}'
            )
    for path, node in walk(cfg._cfg_dict):
        if isinstance(node.get('plugins'), (list, tuple)) and _drop(
            node, 'plugins', lambda plugin: _find(own, plugin['cfg']) is BA2M
        ):
            changes.append(f'{path}: no plugins that are BA2M')
        cls = _find(own, node) or object
        based = cls in (AttentionBackbone, AttentionMaps)
        trained = cls.__module__.startswith(f'{heads.__name__}.')
        if trained:
            for key in TRAINING_ONLY:
                node.pop(key, None)
        elif based or issubclass(cls, AttentionMixin):
            if _drop(
                node, 'attention', lambda e: find_attention(e['type']) is BA2M
            ):
                changes.append(f'{path}: no attention that is BA2M')
            elif based:
                continue
            for key in ('ba2m_stages', 'ba2m_cfg'):
                node.pop(key, None)
        elif not issubclass(cls, (BaseMetric, Hook)):
            continue
        if trained:
            default = inspect.signature(cls).parameters['base'].default
            stock = node.pop('base', default)
        elif not based:
            stock = _find_stock(own, names, node)
        elif 'attention' not in node:
            stock = _take_base(path, node, cls, scope)
        else:
            continue
        if stock is None and issubclass(cls, AttentionMixin):
            raise ValueError(
                f'{path}: the backbone below {node["type"]} does not take '
                f'its options ({", ".join(node)})'
            )
        if stock not in (None, node['type']):
            changes.append(f'{path}: {node["type"]} → {stock}')
            node['type'] = stock

    nodes = walk(cfg._cfg_dict)
    left = [f'{path}: {n["type"]}' for path, n in nodes if _find(own, n)]
    imports = cfg.get('custom_imports') or {}
    if not left and _drop(imports, 'imports', lambda name: name == _PACKAGE):
        if 'imports' not in imports:
            cfg.pop('custom_imports')
        changes.append(f'custom_imports: no {_PACKAGE}')
    return cfg, changes, left


def _take_base(path, node, cls, scope):
    """Takes the name of what BA²M was added to."""
    if node.get('base') is None:
        raise ValueError(
            f'{path}: in a list of necks, AttentionMaps gives the weights of '
            'the others their names; only with base=… it can be stripped'
        )
    base = node.pop('base')
    if cls is AttentionMaps and 'in_channels' not in _parameters(
        find_class(base, scope)
    ):
        node.pop('in_channels')
    return base


def _registered(scope):
    """Maps names to classes of this package, and all classes to names."""
    own, names = {}, {}
    for registry in list_registries():
        if registry.scope == _PACKAGE:
            registry.import_from_location()
        for name, cls in registry.module_dict.items():
            full, path = f'{registry.scope}.{name}', path_of(cls)
            plain = registry.scope in (scope, 'mmengine')
            short = name if plain else full
            names.setdefault(cls, short)
            if path.split('.')[0] == _PACKAGE:
                own.update({short: cls, full: cls, path: cls})
    return own, names


def _find(own, node):
    """The class of this package that a dict of a config names, or None."""
    name = node.get('type') if isinstance(node, dict) else None
    return own.get(name) if isinstance(name, str) else None


def _find_stock(own, names, node):
    """The name of what a class extends, if that takes the options."""
    cls = _find(own, node)
    families = [cls.__mro__[1:]]
    if issubclass(cls, AttentionMixin):
        # the host's; with other attention, this package's without BA²M
        families = [
            [base for base in cls.__mro__ if not issubclass(base, mixin)]
            for mixin in (AttentionMixin, BA2MStagesMixin)
        ]
    for family in families:
        base = next((base for base in family if base in names), None)
        if base is cls:
            return node['type']
        if base and node.keys() - {'type'} <= _parameters(base):
            return names[base]
    return None


def _parameters(cls):
    """The names that a class takes, those it hands on included."""
    names = {'_scope_', 'priority'}  # for the registry, for the runner
    for base in cls.__mro__:
        if '__init__' in vars(base):
            spec = inspect.getfullargspec(base.__init__)
            names.update(spec.args + spec.kwonlyargs)
            if not spec.varkw:
                break
    return names


def _drop(node, key, is_ours):
    """Takes entries, which it returns, out of a list, and an empty one."""
    entries = to_entries(node.get(key))
    kept = [entry for entry in entries if not is_ours(entry)]
    if not kept:
        node.pop(key, None)
    elif len(kept) < len(entries):
        node[key] = kept
    return [entry for entry in entries if is_ours(entry)]
