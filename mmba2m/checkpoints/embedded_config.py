"""Reads the config that a checkpoint carries."""

import ast

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

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


def read_embedded_config(checkpoint: dict) -> Config:
    """Reads the config that MMEngine keeps in a checkpoint, running no code.

    Args:
        checkpoint: A checkpoint.

    Returns:
        The config; what its ``custom_imports`` name is imported.

    Raises:
        ValueError: If there is none, or it is more than values.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    if not isinstance(text, str):
        raise ValueError('no config in it, name it with --config')
    values = {}
    # `Config.fromstring` would run whatever the text says
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f'the config in it is damaged: {error}') from error
    for node in ast.walk(tree):
        known = isinstance(node, _LITERALS)
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id == 'dict'
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            known = node.id == 'dict'
        if not known:
            raise ValueError(
                'the config in it is more than values, line '
                f'{getattr(node, "lineno", "?")}: {ast.unparse(node)}'
            )
    exec(
        compile(tree, 'config', 'exec'),
        {'__builtins__': {}, 'dict': dict},
        values,
    )
    cfg = Config(values)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    return cfg
