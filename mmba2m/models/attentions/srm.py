"""SRM: Style-based Recalibration Module.

Paper: https://arxiv.org/abs/1903.10829.
"""

import torch
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .names import FEATURE_MAP_POSITIONS
from .norm import BranchNorm


@MODELS.register_module()
class SRM(nn.Module):
    """Scales channels by their style: mean and standard deviation.

    ``y = x · σ(norm(z))`` with ``z_c = w_c · (μ_c, σ_c)``, two weights per
    channel (the paper's CFC) that start at 0, and the gates at 1/2. The
    2 · C multiply-adds of z are in no count of FLOPs.

    Args:
        in_channels: Channels C of the input.
        norm_cfg: The norm. Defaults to ``dict(type='BN')``.
    """

    _abbr_ = 'srm'
    positions = FEATURE_MAP_POSITIONS

    def __init__(
        self,
        in_channels: int,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
    ):
        super().__init__()
        self.cfc = nn.Parameter(torch.zeros(in_channels, 2))
        self.norm = BranchNorm(norm_cfg, in_channels, pooled=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        style = self.pool_style(x).to(self.cfc.dtype)  # (N, C, 2)
        z = (style * self.cfc).sum(2)  # (N, C)
        gate = self.norm(z[..., None, None]).sigmoid()  # (N, C, 1, 1)
        return x * gate.to(x.dtype)

    @staticmethod
    def pool_style(x: Tensor) -> Tensor:
        """Pools to mean and deviation: (N, C, H, W) → (N, C, 2), float32."""
        # half precision could not hold a variance above 65504
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        # the variance of a single position is 0, not undefined
        correction = min(x.size(2) * x.size(3) - 1, 1)
        var, mean = torch.var_mean(x, (2, 3), correction=correction)
        return torch.stack([mean, (var + 1e-5).sqrt()], dim=2)
