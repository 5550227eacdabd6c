"""What the branches of BA²M read of a feature map, the one large tensor."""

from itertools import product

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight

from .captured import is_captured

# Smaller maps leave the matrix products too little to work on.
MIN_POSITIONS = 100


def shared_projection(x, full, half, strided):
    """Computes the mean and three convolutions of one feature map.

    Values and gradients are those of the layers. For plain contiguous maps
    on the CPU they are computed without oneDNN's copies of the map in a
    layout of its own, and the gradient of the map is written once, not once
    for each layer and then added up.

    Args:
        x (Tensor): Shape (N, C, H, W).
        full (nn.Conv2d): 1×1 convolution.
        half (nn.Conv2d): 1×1 convolution of stride 2.
        strided (nn.Conv2d): 3×3 convolution of stride 2, padding 1.

    Returns:
        tuple[Tensor]: The mean, (N, C, 1, 1), and the outputs of the layers,
        the first (N, ·, H, W), the others (N, ·, ⌈H/2⌉, ⌈W/2⌉).
    """
    layers = (full, half, strided)
    if not _is_plain(x, layers):
        return x.mean((2, 3), keepdim=True), *(layer(x) for layer in layers)
    tensors = [t for layer in layers for t in (layer.weight, layer.bias)]
    if torch.is_grad_enabled():
        return _SharedProjection.apply(x, *tensors)
    return _project(x, *tensors)


def _is_plain(x, layers):
    return (
        not is_captured()
        and x.device.type == 'cpu'
        and x.is_contiguous()
        and x[0, 0].numel() >= MIN_POSITIONS
        and x.dtype in (torch.float32, torch.float64)
        and all(layer.weight.dtype == x.dtype for layer in layers)
        and not _is_autocast()
    )


def _is_autocast():
    try:
        return torch.is_autocast_enabled('cpu')
    except TypeError:  # torch < 2.4
        return torch.is_autocast_cpu_enabled()


def _project(x, w_full, b_full, w_half, b_half, w_strided, b_strided):
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
    @torch.autograd.function.once_differentiable
    def backward(ctx, g_mean, g_full, g_half, g_strided):
        x, w_full, w_half, w_strided = ctx.saved_tensors
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            _fill_input_gradient(
                dx, w_full, w_half, w_strided, g_full, g_half, g_strided
            )
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
