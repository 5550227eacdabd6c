"""Config files: where ours lie, what hosts know of them, and how to read one.

MMEngine finds ``mmdet::…`` and its like, and no package beside its own.
"""

from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from .stack import HOSTS

PREFIX = 'mmba2m::'
#: folders whose metafiles list classifiers alone
CLASSIFIERS = (
    *('attention', 'densenet', 'efficientnet', 'mobilenet_v2', 'preresnet'),
    *('resnet', 'resnext', 'shufflenet_v2', 'wrn'),
)
#: what names a class in configs
_KEYS = ('type', 'base', 'norm_layer', 'runner_type')


def config_root() -> Path:
    """Finds the folder that has ``configs/``: of a checkout or installed.

    Raises:
        FileNotFoundError: If this package was installed without.
    """
    package = Path(__file__).resolve().parent
    for root in (package.parent, package / '.mim'):
        if (root / 'model-index.yml').is_file():
            return root
    raise FileNotFoundError(f'there are no configs beside {package}')


def list_configs() -> dict[str, Path]:
    """Lists the configs of this package by their names below ``configs/``.

    Without ``_base_/``, and with the suffix, as
    'faster_rcnn/faster-rcnn_ba2m-r50_fpn_2x_coco.py'.
    """
    root = config_root() / 'configs'
    paths = {p.relative_to(root).as_posix(): p for p in root.rglob('*.py')}
    return {k: paths[k] for k in sorted(paths) if not k.startswith('_')}


def find_config(name: str) -> Path:
    """Finds the installed file of a config.

    Args:
        name: Its path below ``configs/``, or its file's name alone; with the
            suffix or without, and with 'mmba2m::' or without.

    Raises:
        ValueError: If there is none, with names like it.
    """
    configs = list_configs()
    wanted = name.removeprefix(PREFIX).removesuffix('.py')
    for key, path in configs.items():
        if wanted in (key.removesuffix('.py'), path.stem):
            return path
    names = [*configs, *(path.stem for path in configs.values())]
    close = ', '.join(get_close_matches(wanted, names, 3))
    raise ValueError(
        f'there is no config {name!r}'
        + (f'; did you mean {close}?' if close else '')
    )


def read_config(path: str | Path) -> Config:
    """Reads a config, of MMEngine's new style as well.

    There, types are classes; here they become their names, so that all who
    compare names find them. A config without ``default_scope`` gets that of
    its model.

    Args:
        path: A file, or 'mmba2m::' and a name that :func:`find_config` takes.
    """
    if str(path).startswith(PREFIX):
        path = find_config(str(path))
    cfg = complete_scope(Config.fromfile(path))
    own = cfg.to_dict().keys()  # without what the file imports
    if len(own) < len(cfg):
        cfg = Config({key: cfg[key] for key in own}, filename=cfg.filename)
        _name_classes(cfg._cfg_dict, _list_names(cfg.get('default_scope')))
    return cfg


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Sets in a config what ``--cfg-options`` says.

    Raises:
        ValueError: If a setting has no place in the config.
    """
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError) as error:
        raise ValueError(f'--cfg-options: {error.args[0]}') from None


def complete_scope(cfg: Config) -> Config:
    """Sets ``default_scope`` to the host of the model, if there is none."""
    model = (cfg.get('model') or {}).get('type')
    host = str(getattr(model, '__module__', model)).split('.')[0]
    if not cfg.get('default_scope') and host in HOSTS:
        cfg.default_scope = host
    return cfg


def list_registries() -> Iterator[Registry]:
    """Yields the registries of MMEngine and the hosts, and their children."""
    for name in ('mmengine', *HOSTS):
        for registry in vars(import_module(f'{name}.registry')).values():
            if type(registry) is Registry:
                # some of the hosts' are without a parent
                yield from (registry, *registry.children.values())


def path_of(cls: Any) -> str:
    """Gives the path of a class, as lazy configs have it."""
    module = getattr(cls, '__module__', None)
    return f'{module}.{getattr(cls, "__name__", None)}'


def _name_classes(node: Any, names: dict[Any, str]) -> None:
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in children:
        if key in _KEYS and hasattr(value, '__name__'):
            path = path_of(value)
            if path.startswith('mmcv.ops.'):  # are looked up there
                path = value.__name__
            node[key] = names.get(value, path)
        elif isinstance(value, (dict, list, tuple)):
            _name_classes(value, names)


def _list_names(scope: str | None) -> dict[Any, str]:
    """Maps what is registered to its name, short where the scope has it.

    A path alone would not do: some modules are hidden by a function of their
    name.
    """
    names, short = {}, {}
    registries = [*list_registries()]
    for known in ('mmengine', scope):
        for registry in registries:
            for name, cls in registry.module_dict.items():
                names[cls] = f'{registry.scope}.{name}'
                if registry.scope == known:
                    short[name] = cls
    return names | {cls: name for name, cls in short.items()}


def register_classifiers() -> None:
    """Tells MMPretrain the names of our classifiers, where configs are here.

    ``mmpretrain.list_models('*ba2m*')`` and ``get_model`` then know them.
    """
    from mmpretrain.apis import ModelHub

    with suppress(FileNotFoundError):
        root = config_root()
        for name in CLASSIFIERS:
            file = root / f'configs/{name}/metafile.yml'
            ModelHub.register_model_index(file, config_prefix=root)
