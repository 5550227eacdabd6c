"""Parameters and FLOPs of a network, counted as the paper counts them."""

from contextlib import ExitStack
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.overrides import TorchFunctionMode

from mmba2m.models.attentions import RunningBN


class _EmptyOnMeta(TorchFunctionMode):
    """Gives no memory to weights, which are empty before they are drawn.

    ``torch.device('meta')`` would take it from all tensors, and the hosts
    read numbers off some that they make.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def build_on_meta(cfg: Config) -> nn.Module:
    """Builds a network without values: for its shapes, names and classes.

    Args:
        cfg: The config of a detector or classifier; it stays as it is.

    Returns:
        The network on the meta device, in ``train()``.
    """
    init_default_scope(cfg.default_scope)
    with _EmptyOnMeta():
        return MODELS.build(deepcopy(cfg.model)).to('meta')


def count_parameters(network):
    """Counts the parameters of a network, buffers not included.

    Args:
        network (nn.Module): Any, also on the meta device.

    Returns:
        int: Number of parameters.
    """
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network, run):
    """Counts multiply-adds of layers, by the shapes that they give.

    Convolutions and linear layers count with their multiply-adds, norms over
    maps with two per value; matrix products of attention, activations and
    biases do not count: so the paper's columns come out.

    Args:
        network (nn.Module): Any, also on the meta device.
        run (Callable): Runs what is counted, e.g. a forward pass.

    Returns:
        int: Multiply-adds.
    """
    total = 0

    def add(module, inputs, out):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out.numel() * module.weight[0].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            total += inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += out.numel() * module.in_features
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, RunningBN)):
            total += 2 * out.numel()

    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            hook = module.register_forward_hook(add)
            hooks.callback(hook.remove)
        run()
    return total
