"""CBAM: Convolutional Block Attention Module.

Paper: https://arxiv.org/abs/1807.06521. As in the authors' code
(https://github.com/Jongchan/attention-module), a batch norm follows the 7×7
convolution and starts with a scale of 0, and the MLP starts as PyTorch's
linear layers, but with biases of 0.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import check_odd, reduce_channels
from .names import FEATURE_MAP_POSITIONS
from .norm import BranchNorm


@MODELS.register_module()
class CBAM(BaseModule):
    """Scales channels, then positions, by their averages and maxima.

    ``x' = x · σ(MLP(GAP(x)) + MLP(GMP(x)))`` and ``y = x' ·
    σ(norm(conv([max_c x'; mean_c x'])))``. With the norm's scale at 0, the
    second gate starts as 1/2 everywhere.

    Args:
        in_channels: Channels C of the input.
        reduction: r; the MLP has C // r channels. Defaults to 16.
        kernel_size: Of the convolution over the two maps, odd. Defaults to 7.
        norm_cfg: The norm. Defaults to the authors', ``dict(type='BN',
            momentum=0.01)``.

    Raises:
        ValueError: If ``reduction`` or ``kernel_size`` are out of range.
    """

    _abbr_ = 'cbam'
    positions = FEATURE_MAP_POSITIONS

    def __init__(
        self,
        in_channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        norm_cfg: dict | None = dict(type='BN', momentum=0.01),  # noqa: B006
    ):
        super().__init__()
        check_odd(self, kernel_size=kernel_size)
        mid_channels = reduce_channels(self, in_channels, reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, in_channels, 1),
        )
        self.conv = nn.Conv2d(
            2, 1, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = BranchNorm(norm_cfg, 1)
        self._init_gates()

    def init_weights(self) -> None:
        """Starts as the authors do, see above."""
        super().init_weights()
        self._init_gates()

    def _init_gates(self):
        for fc in (self.mlp[0], self.mlp[2]):
            # He's initialisation would saturate the gates
            fc.reset_parameters()
            nn.init.zeros_(fc.bias)
        for parameter in self.norm.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        means = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        maxima = x.amax((2, 3), keepdim=True)
        x = x * (self.mlp(means) + self.mlp(maxima)).sigmoid()
        maps = [x.amax(1, keepdim=True), x.mean(1, keepdim=True)]
        maps = self.conv(torch.cat(maps, dim=1))  # (N, 1, H, W)
        return x * self.norm(maps).sigmoid()
