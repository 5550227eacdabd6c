"""Writes a config as MMEngine's new style has it: types that are classes."""

from mmengine.config import Config

from mmba2m.config_files import list_registries

DROPPED = ('custom_imports', 'default_scope', 'runner_type')


class _Name(str):
    __repr__ = str.__str__


def write_new_style(cfg: Config, folder, **changes):
    """Writes what a config says into ``base.py`` and ``config.py``.

    As in MMDetection's own there is no ``default_scope``. Names of layers
    that are no names of classes ('BN', 'nms') stay strings.

    Returns:
        The path of ``config.py``, which has ``changes`` and reads the other.
    """
    scope = cfg.default_scope
    known = {}
    for registry in list_registries():
        registry.import_from_location()
        for name, cls in registry.module_dict.items():
            if registry.scope == scope or name not in known:
                known[name] = cls  # as a name without a scope is looked up
            known[f'{registry.scope}.{name}'] = cls
    imports = {}

    def convert(node):
        if isinstance(node, (list, tuple)):
            return type(node)(map(convert, node))
        if not isinstance(node, dict):
            return node
        cls = known.get(node.get('type'))
        node = {key: convert(value) for key, value in node.items()}
        if cls and node['type'].endswith(cls.__name__):
            imports[cls.__name__] = cls.__module__
            node['type'] = _Name(cls.__name__)
        return node

    values = {k: convert(v) for k, v in cfg.to_dict().items()}
    lines = [f'from {path} import {name}' for name, path in imports.items()]
    lines += [f'{k} = {v!r}' for k, v in values.items() if k not in DROPPED]
    (folder / 'base.py').write_text('\n'.join([*lines, '']))
    lines = ['from mmengine.config import read_base', 'with read_base():']
    lines += ['    from .base import *', '']
    lines += [f'{key} = {value!r}' for key, value in changes.items()]
    path = folder / 'config.py'
    path.write_text('\n'.join([*lines, '']))
    return path
