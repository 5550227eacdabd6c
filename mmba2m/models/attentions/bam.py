"""BAM: Bottleneck Attention Module.

Paper: https://arxiv.org/abs/1807.06514. This is the module of the authors'
code (https://github.com/Jongchan/attention-module), which multiplies the maps
of the two gates. The paper's equations add them, and end both gates with a
batch norm.
"""

from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import reduce_channels
from .ba2m.branches import ChannelAttention, LocalSpatialAttention
from .names import FEATURE_MAP_POSITIONS


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
    positions = ('after_stage', *FEATURE_MAP_POSITIONS[:-1])

    def __init__(
        self,
        in_channels: int,
        reduction: int = 16,
        dilation: int = 4,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
    ):
        super().__init__()
        mid_channels = reduce_channels(self, in_channels, reduction)
        widths = (in_channels, mid_channels, norm_cfg)
        # BA²M took these over, and ends them with a norm
        channel = ChannelAttention(*widths)
        spatial = LocalSpatialAttention(*widths, dilation)
        self.channel = nn.Sequential(*list(channel)[:-1])
        self.spatial = nn.Sequential(*list(spatial)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        gate = (self.channel(x) * self.spatial(x)).sigmoid()  # (N, C, H, W)
        return x + x * gate
