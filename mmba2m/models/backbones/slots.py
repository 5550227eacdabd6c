"""The mixin that puts attention modules into a host's backbone."""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmcv.cnn.bricks.plugin import infer_abbr
from mmengine.model.weight_init import PretrainedInit
from mmengine.utils import to_2tuple
from torch import nn

from mmba2m.models.attentions.arguments import get_width
from mmba2m.models.attentions.names import (
    FEATURE_MAP_POSITIONS,
    find_attention,
)
from mmba2m.models.attentions.norm import warn_of_dead_norms

from .block_points import (
    find_convs,
    find_convs_to,
    find_layer,
    find_positions,
    find_size,
    replace_conv,
    run_behind,
    run_on_all,
)
from .calls import check_calls
from .stages import Stage, append_to, find_blocks, find_stages

_STAGE = 'after_stage'


def to_entries(attention: dict | Sequence[dict] | None) -> list[dict]:
    """Makes a list of whatever the option ``attention`` is."""
    if isinstance(attention, (list, tuple)):
        return [*attention]
    return [] if attention is None else [attention]  # type: ignore


class AttentionMixin:
    """Backbone with attention modules in its blocks or behind its stages.

    Mixed in before a ResNet of a host: ``attention=dict(type='SE')`` is all
    that a config needs. The modules are children of the blocks, or the last
    of ``layer{i}``, under the names that MMCV gives plugins: no key of the
    host changes, a plain ResNet checkpoint loads with only the modules' keys
    missing, and ``frozen_stages``, ``norm_eval``, ``with_cp`` and
    ``out_indices`` keep their meaning. What is behind a frozen stage trains
    all the same. Other backbones say in ``_stages`` where their stages end;
    they take modules behind the stages only.

    Positions:

    - 'residual': behind the last norm, in front of the addition.
    - 'after_conv1', 'after_conv2', 'after_conv3': behind norm and ReLU of
      that convolution; behind the last one, as 'residual'.
    - 'conv1', 'conv2', 'conv3': in place of that convolution, under its name.
    - 'se': at 'after_conv2', and instead of the block's own
      squeeze-and-excitation.
    - 'after_stage': between the stages. The map handed on is the module's.

    At one position, modules run in the order of the list, behind what the
    ``plugins`` of the host put there. Modules behind the last of
    ``out_indices`` compute nothing that anybody uses: their parameters are
    frozen, so that distributed training finds none without a gradient.

    A module of one's own needs nothing but to be registered: a
    ``torch.nn.Module`` that takes ``in_channels`` and keeps the shape of a
    map (N, C, H, W). It may say with ``positions`` where it can sit, the
    first being the default, and with ``_abbr_`` how the child is named. The
    hosts add the shortcut in place, so at 'residual' its last operation must
    not be one that keeps its output for the backward pass, as a sigmoid does.

    Args:
        *args: Arguments of the host's backbone.
        attention: One dict for each module:

            - type (str | type): Name or class of the module.
            - position (str): As above. Defaults to the module's first.
            - stages (Sequence[bool]): Whether each stage gets the module.
              Defaults to all.
            - postfix (str | int): Appended to the name of the child, for two
              modules of one type. Defaults to ''.
            - map_size (Sequence[int | tuple[int, int]]): For a module that
              works on one size of its map: that of each stage which gets it,
              e.g. (56, 28, 14, 7) of a ResNet at 224×224.
            - All else are arguments of the module.

            Defaults to None.
        **kwargs: Arguments of the host's backbone.

    Attributes:
        attention_names (list[str]): Names of all the modules.

    Raises:
        TypeError: If ``attention`` is not a dict with a type, or several.
        ValueError: If there is no module of that type, or it does not fit.
    """

    _behind_stages: tuple[str, ...] = ()  # the host freezes while it is built

    def __init__(
        self,
        *args: Any,
        attention: dict | Sequence[dict] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        # now, as some backbones find it by the last layer of a stage
        self._stage_list = [Stage(*stage) for stage in self._stages()]
        self.attention_names: list[str] = []
        self._norms_checked = False
        self._add_attention(to_entries(attention))
        self._calls_checked = False
        # of the host, which is an nn.Module
        self.register_forward_pre_hook(check_calls)  # type: ignore

    def init_weights(self):
        """Initialises the host's layers, then the modules by their own."""
        super().init_weights()
        cfgs = getattr(self, 'init_cfg', None) or []
        cfgs = [cfgs] if isinstance(cfgs, dict) else cfgs
        if any(cfg['type'] in ('Pretrained', PretrainedInit) for cfg in cfgs):
            return
        # MMPretrain's stages hand no init_weights on
        for name in self.attention_names:
            module = self.get_submodule(name)
            if hasattr(module, 'init_weights') and not getattr(
                module, 'is_init', False
            ):
                module.init_weights()

    def train(self, mode=True):
        """Sets the mode, as the host does; names norms that stay dead."""
        super().train(mode)
        if mode and not self._norms_checked:
            self._norms_checked = True
            modules = {n: self.get_submodule(n) for n in self.attention_names}
            warn_of_dead_norms(modules)
        return self

    def _freeze_stages(self):
        """Freezes the stages, but not what is behind them and new."""
        behind = [self.get_submodule(name) for name in self._behind_stages]
        kept = [(p, p.requires_grad) for m in behind for p in m.parameters()]
        getattr(super(), '_freeze_stages', lambda: None)()
        for module in behind:
            module.train(self.training)
        for parameter, requires_grad in kept:
            parameter.requires_grad = requires_grad

    def _stages(self):
        """Lists each stage: its index in ``out_indices``, name and width."""
        return find_stages(self)

    def _uses(self, index):
        """Whether the map of a stage is put out, or leads to one that is."""
        return index <= max(getattr(self, 'out_indices', [index]))

    def _add_attention(self, entries):
        entries = [_Entry(self, entry) for entry in entries]
        # a convolution that is replaced would lose the hooks of other
        # modules, and what is behind a stage is none of its blocks
        entries.sort(key=lambda e: (e.behind_stage, not e.replaces_conv))
        for entry in entries:
            for cfg, stage in zip(entry.cfgs, self._stage_list, strict=True):
                if cfg is None:
                    continue
                added = entry.fill(self, stage, cfg)
                self.attention_names += added
                if entry.behind_stage:
                    self._behind_stages = (*self._behind_stages, *added)
                if not self._uses(stage.index):
                    for child in added:
                        self.get_submodule(child).requires_grad_(False)
        self._freeze_stages()


class _Entry:
    """One dict of ``attention``: what is built, and where it goes."""

    def __init__(self, backbone, cfg):
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise TypeError(
                'attention must be a dict with a type, or a list of them, '
                f'got {cfg!r}'
            )
        cfg = dict(cfg)
        self.cls = find_attention(cfg.pop('type'))
        frozen_norm = getattr(self.cls, 'frozen_norm_cfg', None)
        if frozen_norm and getattr(backbone, 'norm_eval', False):
            cfg.setdefault('norm_cfg', frozen_norm)
        self.reads_all = hasattr(self.cls, 'from_convs')
        self.factory = self.cls.from_convs if self.reads_all else self.cls

        stages = backbone._stage_list
        block = next(iter(find_blocks(backbone, stages[0]).values()), None)
        self.points = find_positions(block)
        positions = getattr(self.cls, 'positions', FEATURE_MAP_POSITIONS)
        possible = [p for p in positions if p in self.points or p == _STAGE]
        if 'se' in self.points and 'after_conv2' in possible:
            possible.append('se')
        wanted = cfg.pop('position', None)
        self.position = wanted or positions[0]
        names = f'{self.cls.__name__} in {type(backbone).__name__}'
        if wanted is None and possible == [_STAGE] != [*positions]:
            self.position = _STAGE
            warnings.warn(f'{names} goes behind the stages', stacklevel=2)
        if self.position not in possible:
            raise ValueError(
                f'position of {names}, {type(block).__name__}, must be one '
                f'of {possible}, got {self.position!r}'
            )
        self.behind_stage = self.position == _STAGE
        self.replaces_conv = self.position in self.points.values()
        if not self.replaces_conv:
            self.name = f'{infer_abbr(self.cls)}{cfg.pop("postfix", "")}'

        enabled = cfg.pop('stages', None)
        if enabled is None:
            enabled = (True,) * len(stages)
        if len(enabled) != len(stages):
            raise ValueError(
                f'stages={tuple(enabled)} of {self.cls.__name__} has '
                f'{len(enabled)} entries, the network has {len(stages)} '
                'stages'
            )
        # the arguments in each stage, None where the module is not
        self.cfgs = [cfg if on else None for on in enabled]
        if 'map_size' in cfg:
            self._divide_sizes(cfg['map_size'])

    def _divide_sizes(self, sizes):
        chosen = [i for i, cfg in enumerate(self.cfgs) if cfg is not None]
        if not isinstance(sizes, (list, tuple)) or len(sizes) != len(chosen):
            raise ValueError(
                f'map_size of {self.cls.__name__} must have one size for each '
                f'of its {len(chosen)} stages, as (56, 28, 14, 7), '
                f'got {sizes!r}'
            )
        for i, size in zip(chosen, sizes, strict=True):
            size = tuple(to_2tuple(size))
            self.cfgs[i] = dict(self.cfgs[i], map_size=size)

    def fill(self, backbone, stage, cfg):
        """Fills one stage and returns the names of what was added."""
        name = stage.name
        parent = backbone.get_submodule(name)
        if self.behind_stage:
            with _naming(name):
                self._add(parent, self.factory(in_channels=stage.width, **cfg))
            append_to(backbone, stage, self.name)
            return [f'{name}.{self.name}']
        added = []
        for path, block in find_blocks(backbone, stage).items():
            with _naming(path):
                at = self._put_into(block, cfg)
            added.append(f'{path}.{at}')
        return added

    def _put_into(self, block, cfg):
        conv = self.points[self.position]
        if 'map_size' in cfg:
            cfg = {**cfg, 'map_size': find_size(block, conv, cfg['map_size'])}
        build = partial(self.factory, **cfg)
        if self.replaces_conv:
            replace_conv(block, conv, build)
            return find_convs(block)[conv][0]
        if self.position == 'se':
            block.se = nn.Identity()
        if self.reads_all:
            convs = find_convs_to(block, conv)
            self._add(block, build([find_layer(block, c) for c in convs]))
            run_on_all(block, conv, self.name)
        else:
            channels = get_width(find_layer(block, conv))
            self._add(block, build(in_channels=channels))
            run_behind(block, conv, self.name)
        return self.name

    def _add(self, parent, module):
        if hasattr(parent, self.name):
            raise ValueError(
                f'there is a {self.name!r} already; give one a postfix'
            )
        parent.add_module(self.name, module)


@contextmanager
def _naming(place):
    """Names the place in what a module does not take."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f'{place}: {error}') from None
