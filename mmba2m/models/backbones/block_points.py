"""Points of a residual block at which a module can act.

The blocks of both hosts have ``conv1`` to ``convN``, each with its norm. What
is put behind one of them becomes a child of the block and runs in hooks, so
no forward of a host is overridden.
"""

from mmengine.utils import to_2tuple
from torch import nn


def find_convs(block):
    """Lists the names of the convolutions of a block, in their order.

    None, where they are not ``conv1`` to ``convN``, each with its norm:
    Res2Net and ResNeSt have others in the place of ``conv2``.
    """
    numbers = [i for i in range(1, 4) if hasattr(block, f'conv{i}')]
    gap = numbers != [*range(1, len(numbers) + 1)]
    if gap or not all(hasattr(block, f'norm{i}') for i in numbers):
        return []
    return [f'conv{i}' for i in numbers]


def find_positions(block):
    """Maps each position in a block to the convolution it is at."""
    convs = find_convs(block)
    positions = {conv: conv for conv in convs}
    positions.update({f'after_{conv}': conv for conv in convs})
    if convs:
        positions['residual'] = convs[-1]
    return positions


def find_convs_to(block, conv):
    """Lists the names of the convolutions of a block up to one of them."""
    convs = find_convs(block)
    return convs[: convs.index(conv) + 1]


def find_size(block, conv, size):
    """Finds (H, W) behind a convolution from that behind the block."""
    convs = find_convs(block)
    for name in convs[convs.index(conv) + 1 :]:
        stride = to_2tuple(getattr(block, name).stride)
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
    conv = getattr(block, name)
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
    setattr(block, name, layer)


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

    def __init__(self, block, child):
        self.block = block
        self.child = child

    def __call__(self, layer, inputs, output=None):
        # by its name: the child may be wrapped or replaced later
        child = getattr(self.block, self.child)
        return child(_get_map(inputs, output))


class _RunOnAll(_Run):
    def __init__(self, block, child):
        super().__init__(block, child)
        self.maps = {}

    def __call__(self, layer, inputs, output=None):
        maps = [self.maps.pop(name) for name in sorted(self.maps)]
        maps.append(_get_map(inputs, output))
        return getattr(self.block, self.child)(maps)

    def __getstate__(self):
        # what a forward pass that failed has left is in no copy
        return {**self.__dict__, 'maps': {}}


class _Keep:
    def __init__(self, run, conv):
        self.run = run
        self.conv = conv

    def __call__(self, layer, inputs, output=None):
        self.run.maps[self.conv] = _get_map(inputs, output)


def _get_map(inputs, output):
    return inputs[0] if output is None else output


def _hook(block, conv, hook):
    convs = find_convs(block)
    number = len(find_convs_to(block, conv))
    if number < len(convs):
        getattr(block, convs[number]).register_forward_pre_hook(hook)
        return
    # nothing that both hosts have follows the last norm
    plugins = getattr(block, f'after_{conv}_plugin_names', None)
    last = plugins[-1] if plugins else f'norm{number}'
    keep = _HookLast(last, hook)
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
        layer = getattr(block, self.name)
        if layer is not self.layer:
            layer.register_forward_hook(self.hook)
            self.layer = layer
