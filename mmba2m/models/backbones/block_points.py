"""Points of a residual block at which a module can act.

The blocks of both hosts' ResNets have ``conv1`` to ``convN``, each with its
norm; others are in :data:`BLOCKS`. What is put behind a convolution becomes a
child of the block and runs in hooks, so no forward of a host is overridden.
"""

from mmengine.utils import to_2tuple
from torch import nn

#: Of other blocks, by the name of their class: the paths of their conv1 to
#: convN, and the layer that puts the map of each out. A linear layer counts as
#: a convolution; in Swin, so does the attention, by its last one.
BLOCKS = dict(
    ConvNeXtBlock=dict(
        depthwise_conv='norm',
        pointwise_conv1='act',
        pointwise_conv2='pointwise_conv2',
    ),
    SwinBlock={
        'attn.w_msa.proj': 'attn',
        'ffn.layers.0.0': 'ffn.layers.0',
        'ffn.layers.1': 'ffn.layers.1',
    },
    InvertedResidual={
        f'{name}.conv': name
        for name in ('expand_conv', 'depthwise_conv', 'linear_conv')
    },
    PreActBlock={f'convs.{i}.conv': f'convs.{i}' for i in range(3)},
)


def find_convs(block):
    """Finds the convolutions of a block: name → its path, whose map it is.

    They are ``conv1`` to ``convN``, each with its norm, or in :data:`BLOCKS`;
    else none: Res2Net and ResNeSt have others in the place of ``conv2``.
    """
    for cls in type(block).__mro__:
        if cls.__name__ in BLOCKS:
            paths = [path for path, _ in block.named_modules()]
            points = enumerate(BLOCKS[cls.__name__].items(), 1)
            return {f'conv{i}': p for i, p in points if p[0] in paths}
    numbers = [i for i in range(1, 4) if hasattr(block, f'conv{i}')]
    gap = numbers != [*range(1, len(numbers) + 1)]
    if gap or not all(hasattr(block, f'norm{i}') for i in numbers):
        return {}
    return {f'conv{i}': (f'conv{i}', None) for i in numbers}


def find_positions(block):
    """Maps each position in a block to the convolution it is at."""
    convs = find_convs(block)
    positions = {conv: conv for conv in convs}
    positions.update({f'after_{conv}': conv for conv in convs})
    if convs:
        positions['residual'] = [*convs][-1]
    if hasattr(block, 'se'):  # squeeze-and-excitation, as a host has it
        positions['se'] = 'conv2'
    return positions


def find_convs_to(block, conv):
    """Lists the names of the convolutions of a block up to one of them."""
    convs = [*find_convs(block)]
    return convs[: convs.index(conv) + 1]


def find_layer(block, conv):
    """Finds the convolution, or linear layer, of that name."""
    return block.get_submodule(find_convs(block)[conv][0])


def find_size(block, conv, size):
    """Finds (H, W) behind a convolution from that behind the block."""
    for name in [name for name in find_convs(block) if name > conv]:
        stride = to_2tuple(getattr(find_layer(block, name), 'stride', 1))
        size = tuple(n * s for n, s in zip(size, stride, strict=True))
    return size


def replace_conv(block, name, build):
    """Puts another layer in the place of a convolution.

    Args:
        block (nn.Module): A residual block.
        name (str): The convolution, e.g. 'conv2'.
        build (Callable): Makes the layer from the arguments of nn.Conv2d.

    Raises:
        ValueError: If something else is there already.
    """
    conv = find_layer(block, name)
    if type(conv) is not nn.Conv2d:
        raise ValueError(
            f'{name} is a {type(conv).__name__} already (by dcn, conv_cfg or '
            'attention), it cannot be replaced'
        )
    layer = build(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    parent, _, child = find_convs(block)[name][0].rpartition('.')
    setattr(block.get_submodule(parent), child, layer)


def run_behind(block, conv, child):
    """Runs a child of a block behind one of its convolutions.

    That is behind norm and ReLU; behind the last convolution, behind its norm
    and in front of the shortcut. What a host's own ``plugins`` put there runs
    first.

    Args:
        block (nn.Module): A residual block.
        conv (str): Name of the convolution.
        child (str): Name of the child.
    """
    _hook(block, conv, _Run(block, child))


def run_on_all(block, conv, child):
    """Runs a child on the outputs of several convolutions of a block.

    Args:
        block (nn.Module): A residual block.
        conv (str): The last of the convolutions. What the child returns
            replaces its output.
        child (str): Name of the child; it gets the list of the outputs, each
            as in :func:`run_behind`.
    """
    run = _RunOnAll(block, child)
    for name in find_convs_to(block, conv)[:-1]:
        _hook(block, name, _Keep(run, name))
    _hook(block, conv, run)


class _Run:
    """A hook, or pre-hook of what follows: hands the map to a child."""

    channels_last = False
    size = None  # (H, W) of tokens

    def __init__(self, block, child):
        self.block = block
        self.child = child

    def __call__(self, layer, inputs, output=None):
        x = inputs[0] if output is None else output
        if not self.channels_last:
            return self.use(x)
        maps = x.unflatten(1, tuple(self.size)) if x.dim() == 3 else x
        y = self.use(maps.permute(0, 3, 1, 2))
        return None if y is None else y.permute(0, 2, 3, 1).reshape(x.shape)

    def use(self, x):
        # by its name: the child may be wrapped or replaced later
        return getattr(self.block, self.child)(x)


class _RunOnAll(_Run):
    def __init__(self, block, child):
        super().__init__(block, child)
        self.maps = {}

    def use(self, x):
        maps = [self.maps.pop(name) for name in sorted(self.maps)]
        return super().use([*maps, x])

    def __getstate__(self):
        # what a forward pass that failed has left is in no copy
        return {**self.__dict__, 'maps': {}}


class _Keep(_Run):
    def __init__(self, run, conv):
        self.run = run
        self.conv = conv

    def use(self, x):
        self.run.maps[self.conv] = x


def _hook(block, conv, hook):
    convs = find_convs(block)
    layer = convs[conv][1]
    hook.channels_last = isinstance(find_layer(block, [*convs][-1]), nn.Linear)
    following = [name for name in convs if name > conv]
    if not layer and following:
        getattr(block, following[0]).register_forward_pre_hook(hook)
        return
    if not layer:
        # nothing that both hosts have follows the last norm
        plugins = getattr(block, f'after_{conv}_plugin_names', None)
        layer = plugins[-1] if plugins else f'norm{conv[-1]}'
    keep = _HookLast(layer, hook)
    keep(block, ())
    block.register_forward_pre_hook(keep)


class _HookLast:
    """Keeps a hook at a layer of a block, whichever layer is there.

    The conversion of SyncBN, and the fusion of convolution and norm, put
    another in the norm's place, without its hooks.
    """

    def __init__(self, name, hook):
        self.name = name
        self.hook = hook
        self.layer = None

    def __call__(self, block, inputs):
        self.hook.size = inputs[1] if len(inputs) > 1 else None
        layer = block
        for name in self.name.split('.'):  # torch 2.1 compiles no more
            layer = getattr(layer, name)
        if layer is not self.layer:
            layer.register_forward_hook(self.hook)
            self.layer = layer
