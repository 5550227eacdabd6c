"""The three attention branches of BA²M (arXiv 2103.15099, Eqs. 6–8).

Each takes a feature map (N, C, H, W) and returns attention before the
sigmoid; its arguments start with C, d = C / R and the config of its norms. The
paper leaves widths and kernels open; its parameter tables fix them: the three
have 2Cd + 3d + 3C, Cd + 18d² + 10d + 3 and 6Cd + d²/4 + 5.5d + 3 parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmba2m.models.attentions.norm import BranchNorm

from .pool_by_products import pool_by_products


class ChannelAttention(nn.Sequential):
    """Channel attention (Eq. 6): (N, C, H, W) → (N, C, 1, 1)."""

    def __init__(
        self, channels: int, mid_channels: int, norm_cfg: dict | None
    ):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, mid_channels, 1),
            BranchNorm(norm_cfg, mid_channels, pooled=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, channels, 1),
            BranchNorm(norm_cfg, channels, pooled=True, last=True),
        )


class LocalSpatialAttention(nn.Sequential):
    """Local spatial attention (Eq. 7): (N, C, H, W) → (N, 1, H, W).

    Two 3×3 convolutions as in BAM, whose settings the paper takes; with the
    one that Eq. 7 shows, no row of the parameter tables comes out.

    Args:
        channels: C.
        mid_channels: d.
        norm_cfg: Config of the norms.
        dilation: Of the 3×3 convolutions. Defaults to 1.
    """

    def __init__(
        self,
        channels: int,
        mid_channels: int,
        norm_cfg: dict | None,
        dilation: int = 1,
    ):
        d = mid_channels
        layers: list[nn.Module] = []
        for conv in (
            nn.Conv2d(channels, d, 1),
            nn.Conv2d(d, d, 3, 1, dilation, dilation),
            nn.Conv2d(d, d, 3, 1, dilation, dilation),
        ):
            layers += [conv, BranchNorm(norm_cfg, d), nn.ReLU(inplace=True)]
        super().__init__(
            *layers, nn.Conv2d(d, 1, 1), BranchNorm(norm_cfg, 1, last=True)
        )


class GlobalSpatialAttention(nn.Module):
    """Global spatial attention (Eq. 8): (N, C, H, W) → (N, 1, ⌈H/2⌉, ⌈W/2⌉).

    An attention-augmented convolution (arXiv 1904.09925) at half resolution:
    a 3×3 convolution beside attention over all positions.

    Args:
        channels: C.
        mid_channels: d; half of it, rounded down but at least 1, goes
            to the attention, the rest to the convolution.
        norm_cfg: Config of the norms.
        num_heads: Attention heads.
        max_kv_size: Keys and values are average-pooled to at
            most this many per side, ``None`` for no limit.

    Raises:
        ValueError: If ``num_heads`` does not divide the attention's channels.
    """

    def __init__(
        self,
        channels: int,
        mid_channels: int,
        norm_cfg: dict | None,
        num_heads: int,
        max_kv_size: int | None,
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
        self.conv = None
        if conv_channels:  # d = 1 has no channel left for it
            self.conv = nn.Conv2d(channels, conv_channels, 3, 2, padding=1)
        self.qkv = nn.Conv2d(channels, 3 * value_channels, 1, stride=2)
        self.proj = nn.Conv2d(value_channels, value_channels, 1)
        self.head = nn.Sequential(
            BranchNorm(norm_cfg, mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, 1, 1),
            BranchNorm(norm_cfg, 1, last=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the attention map, (N, 1, h, w) with h = ⌈H/2⌉."""
        maps = self._attend(self.qkv(x))
        if self.conv is not None:
            maps = torch.cat([self.conv(x), maps], dim=1)  # (N, d, h, w)
        return self.head(maps)

    def _attend(self, qkv):
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
        out = F.scaled_dot_product_attention(
            self._to_tokens(q), self._to_tokens(k), self._to_tokens(v)
        )  # (N, heads, h·w, d_h)
        out = out.transpose(-2, -1).reshape(q.shape)
        return self.proj(out)

    def _to_tokens(self, maps):
        tokens = maps.flatten(2).unflatten(1, (self.num_heads, -1))
        tokens = tokens.transpose(-2, -1)  # (N, heads, L, d_h)
        # contiguous: strided ones take the slow path on the CPU
        return tokens.contiguous()
