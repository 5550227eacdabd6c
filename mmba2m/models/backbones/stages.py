"""Where the stages of the hosts' backbones end: one line for each family.

A family is the class of a host, by its name, and all that extend it. Both
hosts have the same layers in their classes of one name.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn


class Stage(NamedTuple):
    """A stage of a backbone, and where its map is found.

    Args:
        index: Of its map in ``out_indices``.
        name: Of the module that gets the attention modules as children.
        width: Channels of the map.
        layer: Name of the layer that puts the map out. Defaults to ``name``.
        layout: Of what that layer puts out: 'NCHW', 'NHWC', or 'NLC' of a
            layer that is given (H, W) as well.
    """

    index: int  # type: ignore[assignment]
    name: str
    width: int
    layer: str = ''
    layout: str = 'NCHW'


def find_stages(backbone: nn.Module) -> list[Stage]:
    """Finds the stages of a backbone of a host.

    Raises:
        ValueError: If its family is not in :data:`FAMILIES`, or it has no
            stages.
    """
    for cls in type(backbone).__mro__:
        if cls.__name__ in FAMILIES:
            return FAMILIES[cls.__name__](backbone)
    raise ValueError(
        f'it is not known where the stages of {type(backbone).__name__} end, '
        f'if it has any: it extends none of {", ".join(FAMILIES)}. '
        'mmba2m.AttentionMaps, a neck, goes behind any backbone'
    )


def find_blocks(backbone: nn.Module, stage: Stage) -> dict[str, nn.Module]:
    """Finds the blocks of a stage, by their names in the backbone."""
    name = stage.name
    if hasattr(backbone.get_submodule(name), 'blocks'):  # of Swin
        name += '.blocks'
    children = backbone.get_submodule(name).named_children()
    return {f'{name}.{key}': block for key, block in children}


def append_to(backbone: nn.Module, stage: Stage, name: str) -> None:
    """Lets the child ``name`` of a stage work on the stage's map.

    It is there already. In a plain sequence it is the last layer; elsewhere
    a hook calls it, so that no forward of a host is overridden.
    """
    parent = backbone.get_submodule(stage.name)
    if not stage.layer and type(parent).forward is nn.Sequential.forward:
        return
    layer = backbone.get_submodule(stage.layer or stage.name)
    layer.register_forward_hook(_Run(parent, name, stage.layout))


class _Run:
    """A hook that hands the output of a layer to a child of a stage."""

    def __init__(self, parent: nn.Module, child: str, layout: str):
        self.parent = parent
        self.child = child
        self.layout = layout

    def __call__(self, layer: nn.Module, inputs: Any, x: Any) -> Tensor:
        # by its name: the child may be wrapped or replaced later
        child = getattr(self.parent, self.child)
        if not isinstance(x, Tensor):
            raise TypeError(
                f'{self.child} needs a map, {type(layer).__name__} puts out a '
                f'{type(x).__name__}'
            )
        if self.layout == 'NLC':
            x = x.transpose(1, 2).unflatten(2, tuple(inputs[1]))
            return child(x).flatten(2).transpose(1, 2)
        if self.layout == 'NHWC':
            return child(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return child(x)


def _list(
    names: Sequence[str], widths: Sequence[int], first: int = 0
) -> list[Stage]:
    pairs = zip(names, widths, strict=True)
    return [Stage(i, *pair) for i, pair in enumerate(pairs, first)]


def _resnet(net: Any) -> list[Stage]:
    # the width doubles from stage to stage
    last = net.num_stages - 1
    widths = [net.feat_dim // 2 ** (last - i) for i in range(last + 1)]
    return _list(net.res_layers, widths)


def _detectors(net: Any) -> list[Stage]:
    if net.rfp_inplanes:
        raise ValueError(
            f'{type(net).__name__} with rfp_inplanes calls its blocks '
            'around their stages: put the modules into the backbone of the '
            'detector, whose features it is given'
        )
    return _resnet(net)


def _csp(net: Any) -> list[Stage]:
    names = net.layers[1:]  # behind the stem
    widths = [getattr(net, n)[-1].final_conv.out_channels for n in names]
    return _list(names, widths, first=1)


def _swin(net: Any) -> list[Stage]:
    # behind the last block, in front of the merging of patches
    stages = []
    for i, stage in enumerate(net.stages):
        last = len(stage.blocks) - 1
        width = stage.blocks[last].ffn.embed_dims
        layer = f'stages.{i}.blocks.{last}'
        stages.append(Stage(i, f'stages.{i}', width, layer, 'NLC'))
    return stages


def _efficientnet(net: Any) -> list[Stage]:
    # between stem and last convolution, which MMDetection's may lack
    count = sum(isinstance(layer, nn.Sequential) for layer in net.layers)
    names = [f'layers.{i}' for i in range(1, count + 1)]
    return _list(names, [_mobile_width(net, n) for n in names], first=1)


def _mobilenet(net: Any) -> list[Stage]:
    names = net.layers[:-1]
    return _list(names, [_mobile_width(net, name) for name in names])


def _mobile_width(net: Any, stage: str) -> int:
    block = net.get_submodule(stage)[-1]
    if hasattr(block, 'linear_conv'):
        return block.linear_conv.out_channels
    # of MobileNetV2 in MMPretrain, of EfficientNet's edge blocks
    conv = block.conv[-1] if hasattr(block, 'conv') else block.conv2
    return conv.out_channels


def _densenet(net: Any) -> list[Stage]:
    widths = [layer.conv.out_channels for layer in net.transitions[:-1]]
    widths.append(net.transitions[-1][0].num_features)
    return _list(_numbered('transitions', widths), widths)


def _timm(net: Any) -> list[Stage]:
    """The features at a stride of 4 and more, of which timm has a list.

    The modules are children of the wrapper's own ``stage1``, ``stage2``, …,
    as the forward of some of timm's stages goes through all their children.
    """
    model = net.timm_model
    info = getattr(model, 'feature_info', None) or []
    features = getattr(info, 'info', info)
    last = max(getattr(info, 'out_indices', None) or [len(features)])
    strides = [feature['reduction'] for feature in features]
    names = {name for name, _ in net.named_modules()}
    nhwc = str(getattr(model, 'output_fmt', '')).endswith('NHWC')
    stages = []
    for i, feature in enumerate(features):
        path = feature['module']
        paths = [f'timm_model.{p}' for p in (path, path.replace('.', '_'))]
        layer = next((path for path in paths if path in names), None)
        if feature['reduction'] < 4 or i > last:
            continue
        if layer is None or strides != sorted(set(strides)):
            raise ValueError(
                f'{type(model).__name__} of timm has no stages that can be '
                'found. mmba2m.AttentionMaps, a neck, goes behind any '
                'backbone that puts out maps'
            )
        name = f'stage{len(stages) + 1}'
        net.add_module(name, nn.Module())
        layout = 'NHWC' if nhwc else 'NCHW'
        stages.append(Stage(i, name, feature['num_chs'], layer, layout))
    return stages


def _numbered(name: str, layers: Sequence) -> list[str]:
    return [f'{name}.{i}' for i in range(len(layers))]


#: From the name of a class to what lists its stages
FAMILIES: dict[str, Callable[[Any], list[Stage]]] = dict(
    ResNet=_resnet,
    DetectoRS_ResNet=_detectors,
    PreResNet_CIFAR=_resnet,
    RegNet=lambda net: _list(net.res_layers, net.stage_widths),
    CSPDarknet=_csp,
    CSPNeXt=_csp,
    ConvNeXt=lambda n: _list(_numbered('stages', n.channels), n.channels),
    HorNet=lambda net: _list(
        _numbered('stages', net.stages),
        [net.arch_settings['base_dim'] * 2**i for i in range(4)],
    ),
    SwinTransformer=_swin,
    EfficientNet=_efficientnet,
    MobileNetV2=_mobilenet,
    DenseNet=_densenet,
    ShuffleNetV2=lambda net: _list(
        _numbered('layers', net.layers[:-1]),
        # a block puts out its second branch beside as many channels
        [2 * stage[-1].branch2[-1].out_channels for stage in net.layers[:-1]],
    ),
    TIMMBackbone=_timm,
)
