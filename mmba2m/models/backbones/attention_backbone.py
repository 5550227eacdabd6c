"""Attention modules in any backbone of a host, by the backbone's name."""

from functools import cache
from importlib import import_module
from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from mmba2m import HOSTS
from mmba2m.registry import MODELS

from .slots import AttentionMixin


@MODELS.register_module()
def AttentionBackbone(base: str | type, **kwargs: Any) -> nn.Module:
    """Builds a backbone of a host with attention modules.

    ``backbone=dict(type='mmba2m.AttentionBackbone', base='RegNet',
    attention=dict(type='BA2M'))`` over a stock config is enough: all other
    keys stay those of the host's backbone. See :class:`AttentionMixin` for
    ``attention``, and for what stays unchanged.

    Args:
        base: The host's backbone: a class, or a name in the registry of the
            config's ``default_scope``, or with its scope, as
            'mmpretrain.ConvNeXt'.
        **kwargs: Arguments of that backbone, and ``attention``.

    Raises:
        ValueError: If there is no such backbone, its family is not one of
            :data:`stages.FAMILIES`, or a module does not fit.
    """
    return add_attention(find_class(base), AttentionMixin)(**kwargs)


def find_class(name: str | type) -> type:
    """Finds a class of the hosts by its name.

    Raises:
        ValueError: If there is none, or without a default scope one in each.
    """
    if not isinstance(name, str):
        return name
    with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
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
def add_attention(host: type, mixin: type) -> type:
    """Makes the class of a host that has attention modules, once.

    Args:
        host: Class of a host. One that has them is returned as it is.
        mixin: The :class:`AttentionMixin` that is put before it.
    """
    if issubclass(host, AttentionMixin):
        return host
    bases = [mixin, host]
    if hasattr(host, 'get_layer_depth'):
        bases.insert(0, LayerDepthMixin)

    def reduce(self, protocol):
        # pickle finds no class that is made here by its name
        _, _, *state = super(cls, self).__reduce_ex__(protocol)
        return _new, (host, mixin), *state

    namespace = dict(
        __module__=__name__, __doc__=host.__doc__, __reduce_ex__=reduce
    )
    cls = type(f'Attention{host.__name__}', tuple(bases), namespace)
    return cls


def _new(host, mixin):
    cls = add_attention(host, mixin)
    return cls.__new__(cls)


class LayerDepthMixin:
    """What layer-wise learning rate decay asks MMPretrain's backbones for."""

    def get_layer_depth(
        self: Any, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Gives what is behind a stage the depth of the stage's last layer."""
        name = param_name.removeprefix(prefix)
        for stage in self._stage_list if param_name.startswith(prefix) else ():
            ours = tuple(
                f'{child}.'
                for child in self.attention_names
                if child.rpartition('.')[0] == stage.name
            )
            if not name.startswith(ours):
                continue
            layer = stage.layer or stage.name
            keys = self.get_submodule(layer).state_dict(prefix=f'{layer}.')
            last = [key for key in keys if not key.startswith(ours)][-1]
            param_name = f'{prefix}{last}'
        return super().get_layer_depth(param_name, prefix)  # type: ignore
