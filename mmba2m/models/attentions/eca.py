"""ECA: Efficient Channel Attention.

Paper: https://arxiv.org/abs/1910.03151.
"""

import math

from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import check_odd
from .names import FEATURE_MAP_POSITIONS


@MODELS.register_module()
class ECA(nn.Module):
    """Scales channels by the averages of their neighbours.

    ``y = x · σ(conv_k(GAP(x)))``, with a convolution over the C channels. Its
    multiply-adds, k · C for a whole map, are in no count of FLOPs.

    Args:
        in_channels: Channels C of the input.
        kernel_size: k, odd. None is the paper's rule, ``(log2(C) + 1) / 2``
            made odd: 5, 5, 5 and 7 in the stages of a ResNet-50, 86 parameters
            in all. The 80 of the paper's abstract are those of the authors' 3,
            5, 5 and 7, as configs/attention/ has it. Defaults to None.

    Raises:
        ValueError: If ``kernel_size`` is not odd and positive.
    """

    _abbr_ = 'eca'
    positions = FEATURE_MAP_POSITIONS

    def __init__(self, in_channels: int, kernel_size: int | None = None):
        super().__init__()
        if kernel_size is None:
            # rounded down, then up to an odd number, as the authors do
            kernel_size = int((math.log2(in_channels) + 1) / 2) | 1
        check_odd(self, kernel_size=kernel_size)
        self.conv = nn.Conv1d(
            1, 1, kernel_size, padding=kernel_size // 2, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        means = x.mean((2, 3)).unsqueeze(1)  # (N, 1, C)
        gate = self.conv(means).sigmoid()  # (N, 1, C)
        return x * gate.transpose(1, 2).unsqueeze(3)
