"""The three attention branches of BA²M (arXiv 2103.15099, Eqs. 6–8).

Each takes a feature map (N, C, H, W) and returns attention before the
sigmoid; its arguments start with C, d = C / R and the config of its norms. The
paper leaves widths and kernels open; its parameter tables fix them: the three
have 2Cd + 3d + 3C, Cd + 18d² + 10d + 3 and 6Cd + d²/4 + 5.5d + 3 parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmba2m.models.attentions.norm import Branch, BranchNorm

from .pool_by_products import pool_by_products


class ChannelAttention(Branch):
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


class LocalSpatialAttention(Branch):
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
        self.head = Branch(
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
        h, w = qkv.shape[-2:]
        width = qkv.size(1) // 3
        limit = self.max_kv_size
        if limit is None or (
            max(h, w) <= limit and not torch.onnx.is_in_onnx_export()
        ):
            q, k, v = self._to_tokens(qkv, 3)
        else:
            maps, kv = qkv.split([width, 2 * width], dim=1)
            if torch.onnx.is_in_onnx_export():
                kv = pool_by_products(kv, limit)
            else:
                kv = F.adaptive_avg_pool2d(kv, (min(h, limit), min(w, limit)))
            (q,), (k, v) = self._to_tokens(maps, 1), self._to_tokens(kv, 2)
        out = F.scaled_dot_product_attention(q, k, v)  # (N, heads, h·w, d_h)
        return self.proj(out.transpose(-2, -1).reshape(-1, width, h, w))

    def _to_tokens(self, maps, parts):
        """Splits (N, parts·d/2, h, w) into parts (N, heads, L, d_h)."""
        tokens = maps.flatten(2).unflatten(1, (parts, self.num_heads, -1))
        # contiguous: strided ones take the slow path on the CPU
        return tokens.permute(1, 0, 2, 4, 3).contiguous().unbind()
