"""SGE: Spatial Group-wise Enhance.

Paper: https://arxiv.org/abs/1905.09646.
"""

import torch
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .names import FEATURE_MAP_POSITIONS


@MODELS.register_module()
class SGE(nn.Module):
    """Scales the positions of each group of channels.

    Positions count by how similar they are to the group's average: in a group
    of channels x_p with average g, ``t_p = g · x_p``, ``t̂ = (t − mean(t)) /
    (std(t) + 1e-5)`` over the positions, and ``y_p = x_p · σ(γ t̂_p + β)``.
    γ starts at 0 and β at 1, so the gates start at σ(1) ≈ 0.73. The
    C · H · W multiply-adds of t are in no count of FLOPs.

    Args:
        in_channels: Channels C of the input.
        groups: Defaults to 64.

    Raises:
        ValueError: If ``groups`` does not divide ``in_channels``.
    """

    _abbr_ = 'sge'
    positions = FEATURE_MAP_POSITIONS

    def __init__(self, in_channels: int, groups: int = 64):
        super().__init__()
        if groups < 1 or in_channels % groups:
            raise ValueError(
                f'groups={groups} of SGE does not divide {in_channels} '
                'channels'
            )
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        grouped = x.flatten(2).unflatten(1, (self.groups, -1))
        mean = grouped.mean(3, keepdim=True)  # (N, G, C/G, 1)
        t = mean.transpose(2, 3) @ grouped  # (N, G, 1, H·W)
        gate = self.weight * self.normalize(t) + self.bias
        return (grouped * gate.sigmoid().to(x.dtype)).reshape(x.shape)

    @staticmethod
    def normalize(t: Tensor) -> Tensor:
        """Normalises over positions, (N, G, 1, L), in float32 at least."""
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        # the deviation of a single position is 0, not undefined
        correction = min(t.size(3) - 1, 1)
        std, mean = torch.std_mean(t, 3, correction=correction, keepdim=True)
        return (t - mean) / (std + 1e-5)

    def extra_repr(self) -> str:
        """Shows the argument that submodules do not show."""
        return f'groups={self.groups}'
