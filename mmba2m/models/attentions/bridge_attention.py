"""BA-Net: bridge attention over the convolutions of a block.

Version 1: https://arxiv.org/abs/2112.04150 (ECCV 2022), with code
(https://github.com/zhaoy376/Bridge-Attention). Version 2:
https://arxiv.org/abs/2410.07860, read from the authors' ``ba_resnet_v2_1.py``
(https://github.com/ZOUrz/BA-Net-Bridge-Attention-in-Deep-Neural-Networks); the
paper's networks may come from ``ba_resnet_v2``, which is not public.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import get_width, reduce_channels
from .norm import BranchNorm


@MODELS.register_module()
class BridgeAttention(nn.Module):
    """Channel attention that looks at all convolutions of its block.

    With the outputs X_1 … X_n of the block's convolutions up to its place,
    each behind its norm (and ReLU, but for the block's last), and
    ``s_i = W_i GAP(X_i)`` of C // r values:

    - version 1: ``s = Σ norm_i(s_i)``;
    - version 2: ``s = norm(Σ v_i s_i + b)``, with learned numbers v_i and b,
      the paper's adaptive selection operator;

    and ``y = X_n · σ(W ReLU(s))``.

    Args:
        in_channels: Channels of X_1 … X_n; the last is C.
        version: 1 or 2. Defaults to 2.
        reduction: r. Defaults to 16.
        norm_cfg: Norm of the pooled features. Small batches ask for one
            without batch, such as ``dict(type='GN', num_groups=1)``. Defaults
            to ``dict(type='BN')``.

    Raises:
        ValueError: If an argument is out of range, or ``in_channels`` is a
            single number.
    """

    _abbr_ = 'bridge_attention'
    positions = ('residual', 'after_conv2')

    def __init__(
        self,
        in_channels: Sequence[int],
        version: int = 2,
        reduction: int = 16,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
    ):
        super().__init__()
        if version not in (1, 2):
            raise ValueError(
                f'version of BridgeAttention must be 1 or 2, got {version!r}'
            )
        if isinstance(in_channels, int):
            raise ValueError(
                'BridgeAttention reads all convolutions of a block, and takes '
                f'their widths, got in_channels={in_channels}; use it by '
                "'attention' of a backbone of mmba2m, not as a plugin"
            )
        channels = in_channels[-1]
        mid_channels = reduce_channels(self, channels, reduction)
        self.version = version
        self.bridges = nn.ModuleList()
        for width in in_channels:
            bridge = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(width, mid_channels, 1, bias=False),
            )
            if version == 1:
                bridge.append(BranchNorm(norm_cfg, mid_channels, pooled=True))
            self.bridges.append(bridge)
        if version == 2:
            self.select = nn.Linear(len(in_channels), 1)
            self.norm = BranchNorm(norm_cfg, mid_channels, pooled=True)
        self.excite = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    @classmethod
    def from_convs(
        cls, convs: Sequence[nn.Module], **cfg: Any
    ) -> 'BridgeAttention':
        """Builds the module for convolutions, or linear layers, of a block."""
        return cls([get_width(conv) for conv in convs], **cfg)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Computes y, of the shape of X_n.

        Args:
            features: X_1 … X_n, of shapes (N, C_i, H_i, W_i).
        """
        squeezed = [
            bridge(x) for bridge, x in zip(self.bridges, features, strict=True)
        ]
        if self.version == 1:
            fused = sum(squeezed)  # (N, C/r, 1, 1)
        else:
            stacked = torch.stack(squeezed, dim=-1)  # (N, C/r, 1, 1, n)
            fused = self.norm(self.select(stacked).squeeze(-1))
        return features[-1] * self.excite(fused)
