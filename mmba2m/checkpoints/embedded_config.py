"""Reads the config that a checkpoint carries."""

import ast
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from mmcv import ops
from mmengine.config import Config
from mmengine.registry import Registry

from mmba2m import HOSTS

_LITERALS = (
    ast.Module,
    ast.Assign,
    ast.Name,
    ast.Store,
    ast.Load,
    ast.Call,
    ast.keyword,
    ast.Dict,
    ast.List,
    ast.Tuple,
    ast.Constant,
    ast.UnaryOp,
    ast.USub,
)
_DAMAGES = (SyntaxError, TypeError, KeyError, RecursionError, MemoryError)
#: what such a config may be of, and import
SCOPES = ('mmba2m', 'mmengine', 'mmcv', *HOSTS)
#: what the hosts look up in no registry, besides mmcv.ops: the clipping of
#: gradients, parts of FPG and of cascaded RPNs
TYPES = (
    *('norm', 'value', 'conv', 'interpolation_conv', 'last_conv'),
    *('dilation', 'offset'),
)
#: keys whose values the hosts evaluate
EVALUATED = ('dtype', 'warp_mode')
#: keys whose values name code elsewhere
FORBIDDEN = ('teacher_config', 'trust_remote_code')


def read_embedded_config(checkpoint: dict) -> Config:
    """Reads the config that MMEngine keeps in a checkpoint, running no code.

    Args:
        checkpoint: A checkpoint.

    Returns:
        The config. It builds only what this package and its hosts have
        registered; of its ``custom_imports`` theirs are imported.

    Raises:
        ValueError: If there is none, it is more than values, or it names
            code of others.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if not isinstance(text, str):
        raise ValueError('no config in it, name it with --config')
    cfg = read_values(text)
    _check_imports(cfg.get('custom_imports') or {})
    for problem in _find_code(cfg):
        raise ValueError(
            f'the config in it has {problem}, which is not of '
            f'{", ".join(SCOPES)}. If you trust it, name a config yourself'
        )
    return cfg


def read_values(text: str) -> Config:
    """Reads the text of a config that holds values only.

    Raises:
        ValueError: If it holds anything else.
    """
    # `Config.fromstring` would run whatever the text says
    try:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            known = isinstance(node, _LITERALS)
            if isinstance(node, ast.Call):
                known = (
                    isinstance(node.func, ast.Name) and node.func.id == 'dict'
                )
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                known = node.id == 'dict'
            if not known:
                raise ValueError(
                    'the config in it is more than values, line '
                    f'{getattr(node, "lineno", "?")}: {ast.unparse(node)}'
                )
        values = {}
        scope = {'__builtins__': {}, 'dict': dict}
        exec(compile(tree, 'config', 'exec'), scope, values)
        return Config(values)
    except _DAMAGES as error:
        raise ValueError(f'the config in it is damaged: {error}') from error


def walk(node: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Yields every dict of a config with its path, outer ones first."""
    children: Iterable = ()
    if isinstance(node, dict):
        yield path, node
        children = list(node.items())
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    for key, child in children:
        yield from walk(child, f'{path}.{key}' if path else str(key))


def list_registered() -> Iterator[tuple[str, str, Any]]:
    """Yields scope, name and class of all that is registered."""
    for registry in _list_registries():
        for name, cls in registry.module_dict.items():
            yield registry.scope, name, cls


def _list_registries():
    modules = [f'{scope}.registry' for scope in ('mmengine', *HOSTS)]
    for module in map(import_module, modules):
        for registry in vars(module).values():
            if type(registry) is Registry:
                # some of the hosts' are without a parent
                yield from (registry, *registry.children.values())


def path_of(cls: Any) -> str:
    """Gives the path of a class, as lazy configs have it."""
    module = getattr(cls, '__module__', None)
    return f'{module}.{getattr(cls, "__name__", None)}'


def _check_imports(imports):
    names = imports.get('imports') or []
    for name in [names] if isinstance(names, str) else names:
        if str(name).split('.')[0] not in SCOPES:
            raise ValueError(
                f'the config in it imports {name}, which is not of '
                f'{", ".join(SCOPES)}. If you trust it, name a config '
                'yourself'
            )
        try:
            import_module(name)
        except ImportError as error:
            raise ValueError(f'the config in it imports {error}') from error


def _find_code(cfg):
    """Yields what would have code run that is not registered."""
    known = {*TYPES, *ops.__all__}
    for registry in _list_registries():
        if registry.scope in SCOPES:
            registry.import_from_location()
    for scope, name, cls in list_registered():
        if scope in SCOPES:
            known |= {name, f'{scope}.{name}', path_of(cls)}
    for path, node in walk(cfg._cfg_dict):
        for key, value in node.items():
            found = f'{path}.{key} = {value!r}'
            if re.search(r'[\'"\\]', str(key)) or not str(key).isprintable():
                yield f'the key {key!r}'
            elif key == 'type' and isinstance(value, str):
                if value not in known:
                    yield found
            elif key in ('default_scope', '_scope_'):
                if value not in (None, *SCOPES):
                    yield found
            elif key in EVALUATED and isinstance(value, str):
                if not re.fullmatch(r'[\w.]+', value):
                    yield found
            elif key in FORBIDDEN and value:
                yield found
