"""The mixin that puts attention modules into a host's backbone."""

import inspect
from contextlib import contextmanager
from functools import partial
from itertools import chain

import torch
from mmcv.cnn.bricks.plugin import infer_abbr
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn
from torch.func import functional_call

from mmba2m.models.attentions.positions import FEATURE_MAP_POSITIONS
from mmba2m.registry import MODELS

from .block_points import (
    find_convs_to,
    find_positions,
    replace_conv,
    run_behind,
    run_on_all,
)

_STAGE = 'after_stage'


def list_attentions():
    """Lists the names of the attention modules of this package."""
    return sorted(
        name
        for name, cls in MODELS.module_dict.items()
        if hasattr(cls, 'positions')
    )


def find_attention(name):
    """Finds the class of an attention module.

    Args:
        name (str | type): Of this package's modules first, then of whatever
            the registries of models have, e.g. 'ContextBlock' or
            'mmdet.Name'. A class is returned as it is.

    Returns:
        type: The class.

    Raises:
        ValueError: If there is none of this name.
    """
    if not isinstance(name, str):
        return name
    with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
        cls = MODELS.get(name) or registry.get(name)
    if cls is None:
        raise ValueError(
            f'there is no attention module {name!r}; there are '
            f'{", ".join(list_attentions())}'
        )
    return cls


def to_entries(attention):
    """Makes a list of whatever the option ``attention`` is."""
    if attention is None:
        return []
    return (
        [*attention] if isinstance(attention, (list, tuple)) else [attention]
    )


class AttentionMixin:
    """Puts attention modules into the blocks or behind the stages.

    Mixed in before a ResNet of MMDetection or MMPretrain:
    ``attention=dict(type='SE')`` is all that a config needs. The modules are
    children of the blocks, or the last of ``layer{i}``, under the names that
    MMCV gives plugins: no key of the host changes, a plain ResNet checkpoint
    loads with only the modules' keys missing, and ``frozen_stages``,
    ``norm_eval``, ``with_cp`` and ``out_indices`` keep their meaning. Other
    backbones say in ``_stages`` where their stages end; they take modules
    behind the stages only.

    Positions:

    - 'residual': on the residual branch, behind the last norm and in front
      of the addition of the shortcut.
    - 'after_conv1', 'after_conv2', 'after_conv3': behind norm and ReLU of
      that convolution; behind the last one, as 'residual'.
    - 'conv1', 'conv2', 'conv3': in place of that convolution, under its name.
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
        attention (dict | Sequence[dict] | None): One dict for each module:

            - type (str | type): Name or class of the module.
            - position (str): As above. Defaults to the module's first.
            - stages (Sequence[bool]): Whether each stage gets the module.
              Defaults to all.
            - postfix (str | int): Appended to the name of the child, for two
              modules of one type. Defaults to ''.
            - input_size (int | tuple[int, int]): Height and width of the
              images, for a module that works on one size of its map, which it
              gets as ``map_size``. Defaults to None.
            - All else are arguments of the module.

            Defaults to None.
        **kwargs: Arguments of the host's backbone.

    Attributes:
        attention_names (list[str]): Names of all the modules.

    Raises:
        TypeError: If ``attention`` is not a dict with a type, or several.
        ValueError: If there is no module of that type, or it does not fit.
    """

    def __init__(self, *args, attention=None, **kwargs):
        super().__init__(*args, **kwargs)
        # now, as some backbones find it by the last layer of a stage
        self._stage_list = self._stages()
        self.attention_names = []
        self._add_attention(to_entries(attention))

    def init_weights(self):
        """Initialises the host's layers, then the modules by their own."""
        super().init_weights()
        cfgs = self.init_cfg or []
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

    def _stages(self):
        """Lists each stage: its index in ``out_indices``, name and width."""
        # the width of a ResNet doubles from stage to stage
        return [
            (i, name, self.feat_dim // 2 ** (self.num_stages - 1 - i))
            for i, name in enumerate(self.res_layers)
        ]

    def _add_attention(self, entries):
        entries = [_Entry(self, entry) for entry in entries]
        # a convolution that is replaced would lose the hooks of other
        # modules, and what is behind a stage is none of its blocks
        entries.sort(key=lambda e: (e.behind_stage, not e.replaces_conv))
        for entry in entries:
            for enabled, (index, name, width) in zip(
                entry.stages, self._stage_list, strict=True
            ):
                if not enabled:
                    continue
                added = entry.fill(self, name, width)
                self.attention_names += added
                if index > max(self.out_indices):
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
        self.reads_all = hasattr(self.cls, 'from_convs')
        self.factory = self.cls.from_convs if self.reads_all else self.cls

        stages = backbone._stage_list
        block = next(backbone.get_submodule(stages[0][1]).children())
        self.points = find_positions(block)
        positions = getattr(self.cls, 'positions', FEATURE_MAP_POSITIONS)
        possible = [p for p in positions if p in self.points or p == _STAGE]
        self.position = cfg.pop('position', None) or positions[0]
        if self.position not in possible:
            raise ValueError(
                f'position of {self.cls.__name__} in {type(block).__name__} '
                f'must be one of {possible}, got {self.position!r}'
            )
        self.behind_stage = self.position == _STAGE
        self.replaces_conv = self.position in self.points.values()
        if not self.replaces_conv:
            self.name = f'{infer_abbr(self.cls)}{cfg.pop("postfix", "")}'

        self.stages = cfg.pop('stages', None)
        if self.stages is None:
            self.stages = (True,) * len(stages)
        if len(self.stages) != len(stages):
            raise ValueError(
                f'stages={tuple(self.stages)} of {self.cls.__name__} has '
                f'{len(self.stages)} entries, the network has {len(stages)} '
                'stages'
            )

        self.sizes = None
        input_size = cfg.pop('input_size', None)
        if input_size is not None:
            if 'map_size' not in inspect.signature(self.cls).parameters:
                raise ValueError(
                    f'{self.cls.__name__} takes maps of any size, so it has '
                    f'no use for input_size={input_size}'
                )
            self.sizes = _trace_sizes(backbone, input_size)
        self.cfg = cfg

    def fill(self, backbone, name, width):
        """Fills one stage and returns the names of what was added."""
        stage = backbone.get_submodule(name)
        if self.behind_stage:
            with _naming(name):
                self._add(stage, self._build(name, in_channels=width))
            return [f'{name}.{self.name}']
        added = []
        for child, block in stage.named_children():
            with _naming(f'{name}.{child}'):
                at = self._put_into(block, f'{name}.{child}')
            added.append(f'{name}.{child}.{at}')
        return added

    def _put_into(self, block, name):
        conv = self.points[self.position]
        build = partial(self._build, f'{name}.{conv}')
        if self.replaces_conv:
            replace_conv(block, conv, build)
            return conv
        if self.reads_all:
            convs = find_convs_to(block, conv)
            self._add(block, build([getattr(block, c) for c in convs]))
            run_on_all(block, conv, self.name)
        else:
            channels = getattr(block, conv).out_channels
            self._add(block, build(in_channels=channels))
            run_behind(block, conv, self.name)
        return self.name

    def _build(self, at, *args, **kwargs):
        if self.sizes is not None:
            before, behind = self.sizes[at]
            kwargs['map_size'] = before if self.replaces_conv else behind
        return self.factory(*args, **kwargs, **self.cfg)

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


def _trace_sizes(backbone, input_size):
    """Maps the names of layers to the sizes of their input and output."""
    if isinstance(input_size, int):
        input_size = (input_size, input_size)
    sizes = {}

    def keep(name, layer, inputs, output):
        if inputs and isinstance(output, torch.Tensor):
            sizes[name] = tuple(inputs[0].shape[-2:]), tuple(output.shape[-2:])

    handles = [
        layer.register_forward_hook(partial(keep, name))
        for name, layer in backbone.named_modules()
        if name
    ]
    stem = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    x = torch.empty(1, stem.in_channels, *input_size, device='meta')
    tensors = chain(backbone.named_parameters(), backbone.named_buffers())
    state = {name: tensor.to('meta') for name, tensor in tensors}
    modes = {layer: layer.training for layer in backbone.modules()}
    backbone.eval()
    try:
        functional_call(backbone, state, (x,))
    except RuntimeError as error:
        raise ValueError(
            f'the sizes of the maps for input_size={input_size} cannot be '
            f'computed ({error}); give map_size for each stage instead'
        ) from None
    finally:
        for layer, mode in modes.items():
            layer.training = mode
        for handle in handles:
            handle.remove()
    return sizes
