"""Reads the config that a checkpoint carries."""

import ast
import builtins
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmcv import ops
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.config_files import list_registries, path_of

#: what such a config may be of, and import
SCOPES = ('mmba2m', 'mmengine', 'mmcv', *HOSTS)
#: what the tools build of such a config
BUILT = ('model', 'data_preprocessor', 'visualizer', 'test_dataloader')
#: what the hosts look up in no registry, besides mmcv.ops: the clipping of
#: gradients, parts of FPG and of cascaded RPNs
TYPES = (
    *('norm', 'value', 'conv', 'interpolation_conv', 'last_conv'),
    *('dilation', 'offset'),
)
#: what ends a file's name, not that of a class
FILES = ('json', 'txt', 'xml')
#: keys whose values name a class or nothing; others may, as padding_mode
NAMES = ('type', 'base', 'norm_layer')
#: of other keys that have hosts import, evaluate or run: what they may be
VALUES = {
    **dict.fromkeys(('default_scope', '_scope_'), f"'({'|'.join(SCOPES)})'"),
    **dict.fromkeys(('dtype', 'warp_mode'), r"'[\w.]+'"),
    **dict(teacher_config="''", trust_remote_code='False'),
}


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
    for problem in find_code(cfg):
        raise ValueError(
            f'the config in it has {problem}, which is not of '
            f'{", ".join(SCOPES)}. If you trust it, name a config yourself'
        )
    try:
        for name in _list_imports(cfg):
            import_module(name)
    except ImportError as error:
        raise ValueError(f'the config in it imports {error}') from error
    return cfg


class _Dicts(ast.NodeTransformer):
    """Makes ``{'a': 1}`` of ``dict(a=1)``."""

    def visit_Call(self, node):
        self.generic_visit(node)
        if ast.unparse(node.func) != 'dict':
            return node
        if node.args:  # dict({'no name': 1})
            return node if node.args[1:] or node.keywords else node.args[0]
        keys = [ast.Constant(word.arg) for word in node.keywords]
        return ast.Dict(keys, [word.value for word in node.keywords])


def read_values(text: str) -> Config:
    """Reads the text of a config that holds values only.

    Raises:
        ValueError: If it holds anything else.
    """
    values: dict = {}
    line: Any = None
    # `Config.fromstring` would run whatever the text says
    try:
        for line in ast.parse(text).body:
            source = ast.unparse(line)
            (target,) = line.targets
            values[target.id] = ast.literal_eval(_Dicts().visit(line.value))
        return Config(values)
    except (AttributeError, TypeError, ValueError) as error:
        if line is None:
            raise
        raise ValueError(
            f'the config in it is more than values, line {line.lineno}: '
            f'{source[:200]}'
        ) from error
    except (SyntaxError, KeyError, RecursionError, MemoryError) as error:
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


def find_code(cfg: Config) -> Iterator[str]:
    """Yields what would have code run that is not registered."""
    known = {*TYPES, *ops.__all__}
    for registry in list_registries():
        if registry.scope in SCOPES:
            registry.import_from_location()
            for name, cls in registry.module_dict.items():
                known |= {name, f'{registry.scope}.{name}', path_of(cls)}
    for name in _list_imports(cfg):
        if str(name).split('.')[0] not in SCOPES:
            yield f'custom_imports = {name!r}'
    for path, node in walk(cfg._cfg_dict):
        for key, value in node.items():
            if (
                re.search(r'[\'"\\]|[^ -~]', str(key))  # MMEngine escapes none
                or (
                    isinstance(value, str)
                    and value not in known
                    and _is_code(key, value, path.split('.')[0] in BUILT)
                )
                or (
                    key in VALUES
                    and not re.fullmatch(f'None|{VALUES[key]}', repr(value))
                )
            ):
                yield f'{path}.{key} = {value!r}'


def _is_code(key, name, built):
    """Whether a name that none registers may be of code.

    Not where only training needs it, as Albumentations' transforms are, and
    what is of a library that is not here.
    """
    first, *others = name.split('.')
    found = (
        re.fullmatch(r'\w+(\.\w+)*', name)
        and name.rpartition('.')[2] not in FILES
        and (first in sys.modules or find_spec(first))
    )
    if key not in NAMES:
        return bool(others and found and key not in ('imports', *VALUES))
    other = not re.fullmatch(r'\w+', name) or hasattr(builtins, name)
    return bool(built or found or other)


def _list_imports(cfg):
    imports = cfg.get('custom_imports') or {}
    if isinstance(imports, dict):
        imports = imports.get('imports', ())
    return imports if isinstance(imports, (list, tuple)) else [imports]
