"""Parameters and FLOPs of a network, counted as the paper counts them."""

from contextlib import ExitStack

import torch
from torch import nn


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
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            total += 2 * out.numel()

    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            hook = module.register_forward_hook(add)
            hooks.callback(hook.remove)
        run()
    return total
