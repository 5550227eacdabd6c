"""Attention modules in any backbone of a host, by the backbone's name."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mmba2m.models.host_classes import extend_class, find_class
from mmba2m.registry import MODELS

from .slots import AttentionMixin


@MODELS.register_module()
def AttentionBackbone(
    base: str | type, attention: dict | Sequence[dict] | None, **kwargs: Any
) -> nn.Module:
    """Builds a backbone of a host with attention modules.

    ``backbone=dict(type='mmba2m.AttentionBackbone', base='RegNet',
    attention=dict(type='BA2M'))`` over a stock config is enough: all other
    keys stay those of the host's backbone. See :class:`AttentionMixin` for
    ``attention``, and for what stays unchanged.

    Args:
        base: The host's backbone: a class, or a name in the registry of the
            config's ``default_scope``, or with its scope, as
            'mmpretrain.ConvNeXt'.
        attention: As :class:`AttentionMixin` takes it. None is the plain
            network, which has to be said.
        **kwargs: Arguments of that backbone.

    Raises:
        TypeError: If ``attention`` is missing.
        ValueError: If there is no such backbone, its family is not one of
            :data:`stages.FAMILIES`, or a module does not fit.
    """
    return add_attention(find_class(base), AttentionMixin)(
        attention=attention, **kwargs
    )


def add_attention(host: Any, mixin: type) -> type:
    """Makes the class of a host that has attention modules.

    Args:
        host: Class of a host. One that has them is returned as it is.
        mixin: The :class:`AttentionMixin` that is put before it.
    """
    if issubclass(host, AttentionMixin):
        return host
    if hasattr(host, 'get_layer_depth'):
        return extend_class(host, LayerDepthMixin, mixin)
    return extend_class(host, mixin)


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
