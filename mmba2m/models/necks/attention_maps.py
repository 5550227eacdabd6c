"""Attention modules behind any backbone, in front of a neck or as one."""

import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmba2m.models.backbones.attention_backbone import add_attention
from mmba2m.models.backbones.slots import AttentionMixin, to_entries
from mmba2m.models.backbones.stages import Stage
from mmba2m.models.host_classes import find_class
from mmba2m.registry import MODELS


@MODELS.register_module()
def AttentionMaps(
    in_channels: int | Sequence[int],
    attention: dict | Sequence[dict],
    base: str | type | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Builds a neck that weighs the maps it gets.

    For backbones without stages that could be found. It is **not** what the
    papers do: a module between two stages changes all that the later stages
    see, while here the backbone computes what it does without, and only the
    heads see weighted maps.

    With ``base`` it is a host's neck, which gets the weighted maps:
    ``neck=dict(type='mmba2m.AttentionMaps', base='FPN',
    attention=dict(type='BA2M'))`` over a stock config, whose other keys and
    checkpoints keep their names. Without, it is one of a list:
    ``neck=[dict(type='mmba2m.AttentionMaps', in_channels=[256, 512],
    attention=dict(type='BA2M')), dict(type='FPN', …)]``.

    The modules are children of ``map0``, ``map1``, …, one for each map of the
    backbone. Maps below the ``start_level`` of ``base`` are not used, so
    their modules are frozen.

    Args:
        in_channels: Channels of each map of the backbone. ``base`` gets them
            too, if it takes them.
        attention: As of :class:`AttentionMixin`, without ``position``;
            ``stages`` says which maps.
        base: The neck behind, as :func:`AttentionBackbone` takes it. Defaults
            to None.
        **kwargs: Arguments of ``base``.

    Raises:
        ValueError: If there is no such neck, a module does not fit, or in
            ``forward`` for another number of maps.
    """
    host = _Maps if base is None else find_class(base)
    if 'in_channels' in inspect.signature(host).parameters:
        kwargs['in_channels'] = in_channels
    widths = [in_channels] if isinstance(in_channels, int) else in_channels
    entries = [
        {'position': 'after_stage', **entry} for entry in to_entries(attention)
    ]
    cls = add_attention(host, _AttentionMapsMixin)
    return cls(widths=widths, attention=entries, **kwargs)


class _AttentionMapsMixin(AttentionMixin):
    def __init__(self, *args: Any, widths: Sequence[int], **kwargs: Any):
        self.widths = tuple(widths)
        super().__init__(*args, **kwargs)
        # behind the hook that checks whether they are called
        self.register_forward_pre_hook(_weigh)  # type: ignore

    def _stages(self):
        stages = [Stage(i, f'map{i}', w) for i, w in enumerate(self.widths)]
        for stage in stages:
            self.add_module(stage.name, nn.Sequential())
        return stages

    def _uses(self, index):
        return index >= getattr(self, 'start_level', 0)


def _weigh(neck: Any, inputs: tuple) -> tuple:
    maps = inputs[0]
    if isinstance(maps, Tensor):
        maps = (maps,)
    if len(maps) != len(neck.widths):
        raise ValueError(
            f'AttentionMaps has in_channels of {len(neck.widths)} maps, '
            f'the backbone puts out {len(maps)}'
        )
    weighed = (neck.get_submodule(f'map{i}')(x) for i, x in enumerate(maps))
    return tuple(weighed), *inputs[1:]


class _Maps(BaseModule):
    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(inputs)
