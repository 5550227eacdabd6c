"""Turns a config with BA²M into the host's own."""

import copy
import inspect

import mmengine.registry
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import Registry

from mmba2m.models.backbones.slots import (
    AttentionMixin,
    find_attention,
    to_entries,
)
from mmba2m.models.backbones.ba2m_stages import BA2MStagesMixin
from mmba2m.models.attentions.ba2m import BA2M

_PACKAGE = 'mmba2m'


def strip_config(cfg):
    """Takes BA²M out of a config, and with it the need for this package.

    Backbones with BA²M become what they extend, with the options that are
    left: the host's, or with other ``attention`` this package's without BA²M.
    Plugins and ``attention`` that are BA²M go, and so do this package's
    hooks, which are for training. Its metrics become the host's where those
    take the same options. Where nothing of this package is left, neither is
    its import.

    Args:
        cfg (Config): A config with BA²M; it stays as it is.

    Returns:
        tuple[Config, list[str], list[str]]: The stock config, what was
        changed, and what of this package it still names.

    Raises:
        ValueError: If a backbone has an option that the host's has not.
    """
    cfg = copy.deepcopy(cfg)
    scope = cfg.get('default_scope') or 'mmengine'
    types = _Types(scope)
    changes = []

    hooks = cfg.get('custom_hooks') or []
    for hook in [hook for hook in hooks if types.find(hook)]:
        hooks.remove(hook)
        changes.append(f'custom_hooks: no {hook["type"]}')
    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        if types.find(hook) and types.find_stock(hook) is None:
            cfg.default_hooks.pop(name)
            changes.append(f'default_hooks.{name}: no {hook["type"]}')

    for path, node in _walk(cfg._cfg_dict):
        _drop_plugins(path, node, types, changes)
        cls = types.find(node)
        if cls is None or not issubclass(
            cls, (AttentionMixin, BaseMetric, Hook)
        ):
            continue
        if issubclass(cls, AttentionMixin):
            _drop_attention(path, node, changes)
        for key in ('ba2m_stages', 'ba2m_cfg'):
            node.pop(key, None)
        stock = types.find_stock(node)
        if stock is None and issubclass(cls, AttentionMixin):
            raise ValueError(
                f'{path}: the backbone below {node["type"]} does not take '
                f'its options ({", ".join(node)})'
            )
        if stock not in (None, node['type']):
            changes.append(f'{path}: {node["type"]} → {stock}')
            node['type'] = stock

    left = [
        f'{path}: {node["type"]}'
        for path, node in _walk(cfg._cfg_dict)
        if types.find(node)
    ]
    if not left:
        _drop_import(cfg, changes)
    return cfg, changes, left


def find_ba2m_options(cfg):
    """Finds the options of the BA²M modules of a config.

    Args:
        cfg (Config): A config.

    Returns:
        list[dict]: Arguments of :class:`BA2M`, one for each place of the
        config that has them.
    """
    types = _Types(cfg.get('default_scope') or 'mmengine')
    options = []
    for _, node in _walk(cfg._cfg_dict):
        cls = types.find(node)
        if cls is BA2M:
            options.append({k: v for k, v in node.items() if k != 'type'})
            continue
        if cls is None or not issubclass(cls, AttentionMixin):
            continue
        if issubclass(cls, BA2MStagesMixin):
            options.append(dict(node.get('ba2m_cfg') or {}))
        # there its name does without the scope
        options += [
            e for e in to_entries(node.get('attention')) if e['type'] == 'BA2M'
        ]
    return options


class _Types:
    """What the names of a config mean, as far as they are this package's."""

    def __init__(self, scope):
        self.own = {}
        self.registered = {}
        self.scope = scope
        roots = vars(mmengine.registry).values()
        for root in [root for root in roots if isinstance(root, Registry)]:
            for registry in [root, *root.children.values()]:
                for name, cls in registry.module_dict.items():
                    self._add(registry.scope, name, cls)

    def _add(self, scope, name, cls):
        names = [f'{scope}.{name}']
        if scope in (self.scope, 'mmengine'):  # the root of all
            names.insert(0, name)
        self.registered.setdefault(cls, names[0])
        module = getattr(cls, '__module__', None) or ''
        if isinstance(cls, type) and module.split('.')[0] == _PACKAGE:
            # a lazy config has the path of the class
            for own in (*names, f'{module}.{cls.__name__}'):
                self.own[own] = cls

    def find(self, node):
        """The class of this package that a dict of a config names."""
        name = node.get('type') if isinstance(node, dict) else None
        return self.own.get(name) if isinstance(name, str) else None

    def find_stock(self, node):
        """The name of what a class extends, if that takes the options."""
        cls = self.find(node)
        families = [cls.__mro__[1:]]
        if issubclass(cls, AttentionMixin):
            # the host's; with other attention, this package's without BA²M
            families = [
                [base for base in cls.__mro__ if not issubclass(base, mixin)]
                for mixin in (AttentionMixin, BA2MStagesMixin)
            ]
        for family in families:
            base = next((b for b in family if b in self.registered), None)
            if base is cls:
                return node['type']
            if base is not None and node.keys() - {'type'} <= _parameters(
                base
            ):
                return self.registered[base]
        return None


def _parameters(cls):
    """The names that a class takes, those it hands on included."""
    names = {'_scope_', 'priority'}  # for the registry, for the runner
    for base in cls.__mro__:
        init = base.__dict__.get('__init__')
        if init is None:
            continue
        parameters = inspect.signature(init).parameters
        names.update(parameters)
        kinds = [parameter.kind for parameter in parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names


def _walk(node, path=''):
    """Yields every dict of a config with its path, outer ones first."""
    if isinstance(node, dict):
        yield path, node
        children = list(node.items())
    elif isinstance(node, (list, tuple)):
        children = list(enumerate(node))
    else:
        return
    for key, child in children:
        yield from _walk(child, f'{path}.{key}' if path else str(key))


def _drop_plugins(path, node, types, changes):
    plugins = node.get('plugins')
    if not isinstance(plugins, (list, tuple)):
        return
    kept = [
        plugin for plugin in plugins if types.find(plugin['cfg']) is not BA2M
    ]
    if len(kept) == len(plugins):
        return
    changes.append(f'{path}: no plugins that are BA2M')
    if kept:
        node['plugins'] = kept
    else:
        del node['plugins']


def _drop_attention(path, node, changes):
    entries = to_entries(node.get('attention'))
    kept = [e for e in entries if find_attention(e['type']) is not BA2M]
    if len(kept) < len(entries):
        changes.append(f'{path}: no attention that is BA2M')
        node['attention'] = kept
    if not kept:
        node.pop('attention', None)


def _drop_import(cfg, changes):
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    kept = [name for name in imports if name.split('.')[0] != _PACKAGE]
    if len(kept) == len(imports):
        return
    changes.append(f'custom_imports: no {_PACKAGE}')
    if kept:
        cfg.custom_imports.imports = kept
    else:
        cfg.pop('custom_imports')
