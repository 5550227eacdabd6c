"""SE: Squeeze-and-Excitation.

Paper: https://arxiv.org/abs/1709.01507.
"""

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmba2m.registry import MODELS

from .arguments import reduce_channels
from .names import FEATURE_MAP_POSITIONS


@MODELS.register_module()
class SE(BaseModule):
    """Scales channels by what their averages say.

    ``y = x · σ(W₂ ReLU(W₁ GAP(x)))``. The names of the parameters are those
    of the hosts' ``SELayer``, so checkpoints of MMPretrain's SE-ResNet load.

    Args:
        in_channels: Channels C of the input.
        reduction: r; the bottleneck has C // r channels. Defaults to 16.

    Raises:
        ValueError: If ``reduction`` is out of range.
    """

    _abbr_ = 'se_layer'
    positions = FEATURE_MAP_POSITIONS

    def __init__(self, in_channels: int, reduction: int = 16):
        super().__init__()
        mid_channels = reduce_channels(self, in_channels, reduction)
        self.conv1 = ConvModule(in_channels, mid_channels, 1)
        self.conv2 = ConvModule(
            mid_channels, in_channels, 1, act_cfg=dict(type='Sigmoid')
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        return x * self.conv2(self.conv1(self.squeeze(x)))

    def squeeze(self, x: Tensor) -> Tensor:
        """Pools each channel: (N, C, H, W) → (N, C, 1, 1)."""
        return x.mean((2, 3), keepdim=True)
