"""Classes of the hosts: found by their names, and extended."""

from functools import cache
from importlib import import_module

from mmengine.registry import MODELS as MMENGINE_MODELS

from mmba2m import HOSTS


def find_class(name: str | type, scope: str | None = None) -> type:
    """Finds a class of the hosts by its name.

    Args:
        name: As in a config.
        scope: The config's ``default_scope``. Defaults to the current one.

    Raises:
        ValueError: If there is none, or without a default scope one in each.
    """
    if not isinstance(name, str):
        return name
    with MMENGINE_MODELS.switch_scope_and_registry(scope) as registry:
        scope, found = registry.scope, registry.get(name)
    if found is None and scope == 'mmengine':
        registries = [import_module(f'{host}.registry') for host in HOSTS]
        classes = {registry.MODELS.get(name) for registry in registries}
        classes.discard(None)
        if len(classes) > 1:
            names = ' or '.join(f'{host}.{name}' for host in HOSTS)
            raise ValueError(f'{name!r} is in several hosts: write {names}')
        found = next(iter(classes), None)
    if found is None:
        raise ValueError(
            f'there is no {name!r} in the scope {scope!r}; that of another '
            "host needs its scope, as 'mmpretrain.ConvNeXt'"
        )
    return found


@cache
def extend_class(host: type, *mixins: type) -> type:
    """Makes the class of a host with mixins before it, once; it pickles.

    Args:
        host: Class of a host.
        *mixins: What is put before it. The name of the last one, as
            'AttentionMixin', becomes part of the new one's.
    """

    def reduce(self, protocol):
        # pickle finds no class that is made here by its name
        _, _, *state = super(cls, self).__reduce_ex__(protocol)
        return _new, (host, *mixins), *state

    namespace = dict(
        __module__=__name__, __doc__=host.__doc__, __reduce_ex__=reduce
    )
    prefix = mixins[-1].__name__.strip('_').removesuffix('Mixin')
    cls = type(f'{prefix}{host.__name__}', (*mixins, host), namespace)
    return cls


def _new(*classes):
    cls = extend_class(*classes)
    return cls.__new__(cls)
