"""BAM: Bottleneck Attention Module.

Paper: https://arxiv.org/abs/1807.06514. This is the module of the authors'
code (https://github.com/Jongchan/attention-module), which multiplies the maps
of the two gates. The paper's equations add them, and end both gates with a
batch norm.
"""

from functools import partial

from torch import Tensor, nn

from mmba2m.models.attentions.norm import BranchNorm
from mmba2m.registry import MODELS

from .positions import FEATURE_MAP_POSITIONS
from .reduction import reduce_channels


@MODELS.register_module()
class BAM(nn.Module):
    """Amplifies what a channel and a spatial gate point out together.

    ``y = x · (1 + σ(M_c(x) · M_s(x)))``, with M_c of shape (N, C, 1, 1) and
    M_s of shape (N, 1, H, W). The paper puts one module after each stage but
    the last: ``stages=(True, True, True, False)``.

    Args:
        in_channels: Channels C of the input.
        reduction: r; the gates work on C // r channels. Defaults to 16.
        dilation: Of the spatial gate's 3×3 convolutions. Defaults to 4.
        norm_cfg: Norm in the gates. Defaults to ``dict(type='BN')``.

    Raises:
        ValueError: If ``reduction`` is out of range.
    """

    _abbr_ = 'bam'
    positions = (
        'after_stage',
        *(p for p in FEATURE_MAP_POSITIONS if p != 'after_stage'),
    )

    def __init__(
        self,
        in_channels: int,
        reduction: int = 16,
        dilation: int = 4,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
    ):
        super().__init__()
        mid_channels = reduce_channels(self, in_channels, reduction)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, mid_channels, 1),
            BranchNorm(norm_cfg, mid_channels, pooled=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, in_channels, 1),
        )
        dilated = partial(
            nn.Conv2d,
            mid_channels,
            mid_channels,
            3,
            padding=dilation,
            dilation=dilation,
        )
        layers = []
        for conv in (
            nn.Conv2d(in_channels, mid_channels, 1),
            dilated(),
            dilated(),
        ):
            layers += [
                conv,
                BranchNorm(norm_cfg, mid_channels),
                nn.ReLU(inplace=True),
            ]
        self.spatial = nn.Sequential(*layers, nn.Conv2d(mid_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        gate = (self.channel(x) * self.spatial(x)).sigmoid()  # (N, C, H, W)
        return x + x * gate
