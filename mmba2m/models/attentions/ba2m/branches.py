"""The three attention branches of BA²M (arXiv 2103.15099, Eqs. 6–8).

Each takes a feature map (N, C, H, W) and returns attention before the
sigmoid. The paper leaves widths and kernels open; its parameter tables fix
them: with d = C / R, the three have 2Cd + 3d + 3C, Cd + 18d² + 10d + 3 and
6Cd + d²/4 + 5.5d + 3 parameters.
"""

import math
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.checkpoint import checkpoint

from .batch_softmax import is_distributed
from .captured import is_captured
from .narrow_conv import LANES, NarrowConv2d
from .pool_by_products import pool_by_products


class BranchNorm(nn.Module):
    """A norm layer, also for pooled maps and the end of a branch.

    Of one value, a norm within the batch or the sample would leave nothing,
    and PyTorch raises. Batch norm, which gets one value per channel from the
    pooled features of a local batch of 1, uses its running statistics there.
    Norms within a sample, which get one from a 1×1 map, only scale and shift.

    So do norms within a sample at the end of a branch: they would set the
    mean of each sample to the same value, and this mean is what the SAR
    (Eq. 9) is to tell samples apart by.

    Args:
        norm_cfg (dict | None): Config of the norm; ``None`` for no norm. The
            ``num_groups`` of GN is an upper bound, it becomes the greatest
            common divisor with ``channels``.
        channels (int): Number of channels.
        pooled (bool): Whether the input is (N, C, 1, 1). Defaults to False.
        last (bool): Whether it is at the end of a branch. Defaults to False.

    Raises:
        ValueError: If the norm of a pooled input has one value per group.
    """

    def __init__(self, norm_cfg, channels, pooled=False, last=False):
        super().__init__()
        self.last = last
        self.norm = nn.Identity()
        if norm_cfg is not None:
            norm_cfg = dict(norm_cfg)
            if 'num_groups' in norm_cfg:
                norm_cfg['num_groups'] = math.gcd(
                    norm_cfg['num_groups'], channels
                )
            self.norm = build_norm_layer(norm_cfg, channels)[1]
        one_value = pooled and not last and self._group_size() == 1
        if one_value and channels > 1:
            raise ValueError(
                f'norm_cfg={norm_cfg} normalises each of the {channels} '
                'pooled channels over a single value, which leaves nothing '
                'of it; take GN with fewer groups'
            )

    def forward(self, x):
        """Normalises (N, C, H, W)."""
        norm = self.norm
        if self._uses_running_statistics(x):
            return F.batch_norm(
                x,
                norm.running_mean,
                norm.running_var,
                norm.weight,
                norm.bias,
                training=False,
                eps=norm.eps,
            )
        one_value = self._group_size() == 1 and x[0, 0].numel() == 1
        if one_value or (self.last and self.within_sample):
            if norm.weight is None:
                return x
            return x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        return norm(x)

    @property
    def within_sample(self):
        """Whether the norm takes each sample for itself, as GN and IN do."""
        return self._group_size() is not None

    def _group_size(self):
        """Channels that a norm within a sample takes together, or None."""
        if isinstance(self.norm, _InstanceNorm):
            return 1
        if isinstance(self.norm, nn.GroupNorm):
            return self.norm.num_channels // self.norm.num_groups
        return None

    def _uses_running_statistics(self, x):
        norm = self.norm
        if not isinstance(norm, _BatchNorm) or not norm.training:
            return False
        if isinstance(norm, nn.SyncBatchNorm) and is_distributed():
            return False
        return x.numel() == x.size(1) and norm.running_mean is not None


def run_layers(layers, x, with_cp=False):
    """Runs layers one after the other.

    Args:
        layers (Sequence[nn.Module]): The layers.
        x (Tensor): Input of the first.
        with_cp (bool): Whether they run again in the backward pass, instead
            of keeping their maps. Defaults to False.

    Returns:
        Tensor: Output of the last.
    """
    if with_cp and x.requires_grad:
        return checkpoint(
            run_layers,
            layers,
            x,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), _keep_statistics(layers)),
        )
    for layer in layers:
        x = layer(x)
    return x


@contextmanager
def _keep_statistics(layers):
    """Keeps running statistics, which have seen the batch already."""
    norms = [
        module
        for layer in layers
        for module in layer.modules()
        if isinstance(module, _BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class _Branch(nn.Sequential):
    def follow(self, x, with_cp=False):
        """Does what ``forward`` does behind the first layer."""
        return run_layers(list(self)[1:], x, with_cp)


class ChannelAttention(_Branch):
    """Channel attention (Eq. 6): (N, C, H, W) → (N, C, 1, 1).

    Args:
        channels (int): C.
        mid_channels (int): d.
        norm_cfg (dict | None): Config of the norms.
    """

    def __init__(self, channels, mid_channels, norm_cfg):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, mid_channels, 1),
            BranchNorm(norm_cfg, mid_channels, pooled=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, channels, 1),
            BranchNorm(norm_cfg, channels, pooled=True, last=True),
        )


class LocalSpatialAttention(_Branch):
    """Local spatial attention (Eq. 7): (N, C, H, W) → (N, 1, H, W).

    Two 3×3 convolutions as in BAM, whose settings the paper takes; with the
    one that Eq. 7 shows, no row of the parameter tables comes out.

    Args:
        channels (int): C.
        mid_channels (int): d.
        norm_cfg (dict | None): Config of the norms.
    """

    def __init__(self, channels, mid_channels, norm_cfg):
        layers = []
        for in_channels, kernel_size in (
            (channels, 1),
            (mid_channels, 3),
            (mid_channels, 3),
        ):
            layers += [
                NarrowConv2d(
                    in_channels,
                    mid_channels,
                    kernel_size,
                    padding=kernel_size // 2,
                ),
                BranchNorm(norm_cfg, mid_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(
            *layers,
            NarrowConv2d(mid_channels, 1, 1),
            BranchNorm(norm_cfg, 1, last=True),
        )


class GlobalSpatialAttention(nn.Module):
    """Global spatial attention (Eq. 8): (N, C, H, W) → (N, 1, ⌈H/2⌉, ⌈W/2⌉).

    An attention-augmented convolution (arXiv 1904.09925) at half resolution:
    a 3×3 convolution beside attention over all positions.

    Args:
        channels (int): C.
        mid_channels (int): d; half of it, rounded down but at least 1, goes
            to the attention, the rest to the convolution.
        norm_cfg (dict | None): Config of the norms.
        num_heads (int): Attention heads.
        max_kv_size (int | None): Keys and values are average-pooled to at
            most this many per side, ``None`` for no limit.

    Raises:
        ValueError: If ``num_heads`` does not divide the attention's channels.
    """

    def __init__(
        self, channels, mid_channels, norm_cfg, num_heads, max_kv_size
    ):
        super().__init__()
        value_channels = max(mid_channels // 2, 1)
        if num_heads < 1 or value_channels % num_heads:
            raise ValueError(
                f'num_heads={num_heads} does not divide the {value_channels} '
                'channels of the global spatial attention'
            )
        self.num_heads = num_heads
        self.max_kv_size = max_kv_size
        conv_channels = mid_channels - value_channels
        # d = 1 has no channel left for the convolution
        self.conv = (
            nn.Conv2d(channels, conv_channels, 3, stride=2, padding=1)
            if conv_channels
            else None
        )
        self.qkv = nn.Conv2d(channels, 3 * value_channels, 1, stride=2)
        self.proj = nn.Conv2d(value_channels, value_channels, 1)
        self.head = nn.Sequential(
            BranchNorm(norm_cfg, mid_channels),
            nn.ReLU(inplace=True),
            NarrowConv2d(mid_channels, 1, 1),
            BranchNorm(norm_cfg, 1, last=True),
        )

    def forward(self, x):
        """Returns the attention map, (N, 1, h, w) with h = ⌈H/2⌉."""
        conv = None if self.conv is None else self.conv(x)
        return self.combine(self.qkv(x), conv)

    def combine(self, qkv, conv, with_cp=False):
        """Turns what ``qkv`` and ``conv`` give into the map of ``forward``.

        Args:
            qkv (Tensor): Shape (N, 3·d/2, h, w).
            conv (Tensor | None): Shape (N, d/2, h, w).
            with_cp (bool): See :func:`run_layers`. Defaults to False.

        Returns:
            Tensor: Shape (N, 1, h, w).
        """
        maps = self.attend(qkv)
        if conv is not None:
            maps = torch.cat([conv, maps], dim=1)  # (N, d, h, w)
        return run_layers(list(self.head), maps, with_cp)

    def attend(self, qkv):
        """Attention over positions: (N, 3·d/2, h, w) → (N, d/2, h, w)."""
        q, k, v = qkv.chunk(3, dim=1)  # (N, d/2, h, w) each
        h, w = q.shape[-2:]
        limit = self.max_kv_size
        if limit is not None and torch.onnx.is_in_onnx_export():
            k, v = (pool_by_products(maps, limit) for maps in (k, v))
        elif limit is not None and (h > limit or w > limit):
            size = (min(h, limit), min(w, limit))
            k = F.adaptive_avg_pool2d(k, size)
            v = F.adaptive_avg_pool2d(v, size)
        out = _attend(
            self._to_tokens(q), self._to_tokens(k), self._to_tokens(v)
        )  # (N, heads, h·w, d_h)
        out = out.transpose(-2, -1)
        return self.proj(out.reshape(q.size(0), -1, h, w))

    def _to_tokens(self, maps):
        tokens = maps.flatten(2).unflatten(1, (self.num_heads, -1))
        tokens = tokens.transpose(-2, -1)  # (N, heads, L, d_h)
        # contiguous: strided ones take the slow path on the CPU
        return tokens.contiguous()


def _attend(q, k, v):
    """Scaled dot-product attention of (N, heads, L, d_h)."""
    channels = q.size(-1)
    if is_captured() or q.device.type != 'cpu' or channels >= LANES:
        return F.scaled_dot_product_attention(q, k, v)
    # on the CPU, zeros up to a whole vector save a third of the time
    q, k, v = (F.pad(tokens, (0, LANES - channels)) for tokens in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=channels**-0.5)
    return out[..., :channels]
