"""The three branches of BA²M at once on the CPU, from one reading of the map.

The map is the one large tensor, and four layers read it. Layer by layer,
oneDNN copies it into a layout of its own, its gradient of a strided 3×3
convolution is slow in the plain layout, and autograd writes a gradient of the
map for each layer and adds them up. Here products of matrices compute the
1×1 convolutions, and the gradient of the map is written once.
"""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.nn.modules import module as hooks

from .branches import (
    ChannelAttention,
    GlobalSpatialAttention,
    LocalSpatialAttention,
)

MIN_POSITIONS = 100
"""Smaller maps leave the products of matrices too little to work on."""


def attend(
    channel: ChannelAttention | None,
    local_spatial: LocalSpatialAttention | None,
    global_spatial: GlobalSpatialAttention | None,
    x: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Computes what the ``forward`` of each branch gives.

    It stands back, and returns None, where somebody else may count on single
    layers: hooks, among them those of pruning and weight norm,
    parametrizations, replaced layers; and where autograd functions in Python
    don't work or others do it better: functional transforms, forward-mode
    gradients, autocast, capture. x has the shape (N, C, H, W).
    """
    if not (
        _is_run_eagerly()
        and type(channel) is ChannelAttention
        and type(local_spatial) is LocalSpatialAttention
        and type(global_spatial) is GlobalSpatialAttention
        and type(channel[0]) is nn.AdaptiveAvgPool2d
    ):
        return None
    strided: Any = global_spatial.conv
    layers = (local_spatial[0], global_spatial.qkv, strided)
    if not all(map(_is_plain_conv, layers, (1, 1, 3), (1, 2, 2))):
        return None
    tensors = [t for layer in layers for t in (layer.weight, layer.bias)]
    branches = (channel, local_spatial, global_spatial)
    if not _is_plain(x, tensors) or any(map(_is_watched, branches)):
        return None
    project = _SharedProjection.apply if torch.is_grad_enabled() else _project
    mean, local, qkv, conv = project(x, *tensors)
    for layer in list(channel)[1:]:
        mean = layer(mean)
    for layer in list(local_spatial)[1:]:
        local = layer(local)
    maps = torch.cat([conv, global_spatial.attend(qkv)], dim=1)
    return mean, local, global_spatial.head(maps)


def _is_run_eagerly():
    if hasattr(torch.compiler, 'is_compiling'):
        captured = torch.compiler.is_compiling()
    else:  # torch < 2.3
        captured = torch._dynamo.is_compiling()
    if captured or torch.jit.is_tracing():
        return False
    try:
        autocast = torch.is_autocast_enabled('cpu')
    except TypeError:  # torch < 2.4
        autocast = torch.is_autocast_cpu_enabled()
    return not (
        autocast
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch.autograd.forward_ad._current_level >= 0
        or hooks._global_forward_hooks
        or hooks._global_forward_pre_hooks
        or hooks._global_backward_hooks
        or hooks._global_backward_pre_hooks
    )


def _is_plain_conv(layer, kernel_size, stride):
    # a parametrization changes the type, a dilation conversion the numbers
    if type(layer) is not nn.Conv2d:
        return False
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    plain = ((n, n) for n in (kernel_size, stride, kernel_size // 2, 1))
    others = (layer.groups, layer.padding_mode)
    return (*sizes, *others) == (*plain, 1, 'zeros')


def _is_plain(x, tensors):
    return (
        x.device.type == 'cpu'
        and x.dtype in (torch.float32, torch.float64)
        and x.is_contiguous()
        and x.size(0) > 0
        and x.size(2) * x.size(3) >= MIN_POSITIONS
        and all(
            type(tensor) in (Tensor, nn.Parameter) and tensor.dtype == x.dtype
            for tensor in (x, *tensors)
        )
    )


def _is_watched(branch):
    """Whether a call of a layer does more than its ``forward``."""
    return any(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or 'forward' in vars(layer)
        for layer in branch.modules()
    )


def _project(x, w_full, b_full, w_half, b_half, w_strided, b_strided):
    """The mean, a 1×1 convolution, one of stride 2, a 3×3 one of stride 2."""
    return (
        x.mean((2, 3), keepdim=True),
        _conv1x1(x, w_full, b_full),
        _conv1x1(x[:, :, ::2, ::2], w_half, b_half),
        F.conv2d(x, w_strided, b_strided, stride=2, padding=1),
    )


def _conv1x1(x, weight, bias):
    # not a view of the product: the ReLU behind may work in place
    out = x.new_empty(x.size(0), weight.size(0), *x.shape[-2:])
    weight = weight.flatten(1).expand(x.size(0), -1, -1)
    torch.baddbmm(bias[:, None], weight, x.flatten(2), out=out.flatten(2))
    return out


def _conv1x1_weight(x, grad):
    return (grad.flatten(2) @ x.flatten(2).mT).sum(0)[..., None, None]


class _SharedProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *tensors):
        ctx.save_for_backward(x, *tensors[::2])
        return _project(x, *tensors)

    @staticmethod
    def backward(ctx, g_mean, g_full, g_half, g_strided):
        # of differentiable operators only, for gradients of gradients
        x, *_, w_strided = ctx.saved_tensors
        dx = None
        if ctx.needs_input_grad[0]:
            weights, grads = ctx.saved_tensors[1:], (g_full, g_half, g_strided)
            dx = torch.empty_like(x)
            _fill_input_gradient(dx, *weights, *grads)
            dx += g_mean / x[0, 0].numel()
        return (
            dx,
            _conv1x1_weight(x, g_full),
            g_full.sum((0, 2, 3)),
            _conv1x1_weight(x[:, :, ::2, ::2], g_half),
            g_half.sum((0, 2, 3)),
            conv2d_weight(x, w_strided.shape, g_strided, stride=2, padding=1),
            g_strided.sum((0, 2, 3)),
        )


def _fill_input_gradient(
    dx, w_full, w_half, w_strided, g_full, g_half, g_strided
):
    # A pixel in an even row is read by row 1 of the 3×3 kernel; one in an odd
    # row by its row 2 and, for the next output, by its row 0: so for columns.
    taps = (((1, 0),), ((2, 0), (0, 1)))
    g_strided = F.pad(g_strided, (0, 1, 0, 1))
    for i, j in product((0, 1), (0, 1)):
        pixels = dx[:, :, i::2, j::2]
        h, w = pixels.shape[-2:]
        weights = [w_full[..., 0, 0]]
        grads = [g_full[:, :, i::2, j::2]]
        if i == j == 0:
            weights.append(w_half[..., 0, 0])
            grads.append(g_half)
        for (a, down), (b, right) in product(taps[i], taps[j]):
            weights.append(w_strided[..., a, b])
            grads.append(g_strided[:, :, down : down + h, right : right + w])
        grads = torch.cat(grads, dim=1).flatten(2)
        pixels.copy_((torch.cat(weights).T @ grads).unflatten(2, (h, w)))
