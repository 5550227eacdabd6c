"""SK: selective kernels, in the form of SK-ResNet*.

Paper: https://arxiv.org/abs/1903.06586, which splits into branches of
different dilation, in networks of its own. This is the variant for ResNet of
https://github.com/implus/PytorchInsight, whose numbers of parameters
comparisons with SK quote (26.15 M for ResNet-50).
"""

from collections.abc import Sequence
from typing import Any

from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import reduce_channels
from .norm import BranchNorm


@MODELS.register_module()
class SK(nn.Module):
    """Doubles conv2 of a bottleneck, and weighs the two against each other.

    Beside conv2 runs a grouped 3×3 convolution. With their outputs U1 and U2,
    both behind norm and ReLU: ``d = ReLU(norm(W1 (GAP(U1) + GAP(U2))))``,
    ``(a1, a2) = softmax(W2 d)`` for each channel, ``V = a1 · U1 + a2 · U2``.

    Args:
        in_channels: Channels of conv2's input.
        out_channels: Channels C of conv2's output.
        stride: conv2's. Defaults to 1.
        dilation: Of the second convolution; in a backbone, by default
            conv2's. Defaults to 1.
        groups: Of the second convolution, divides both. Defaults to 32.
        reduction: r; the weights come from C // r channels. Defaults to 16.
        min_channels: Of these at least. Defaults to 1.
        norm_cfg: Config of the norms. Defaults to ``dict(type='BN')``.

    Raises:
        ValueError: If ``reduction`` or ``groups`` are out of range.
    """

    _abbr_ = 'sk'
    positions = ('after_conv2',)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 32,
        reduction: int = 16,
        min_channels: int = 1,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
    ):
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f'groups={groups} of SK must divide the {in_channels} input '
                f'and {out_channels} output channels of conv2'
            )
        width = reduce_channels(self, out_channels, reduction, 'out_channels')
        width = max(width, min_channels)
        geometry = (stride, dilation, dilation, groups)  # padding, dilation
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, *geometry, bias=False),
            BranchNorm(norm_cfg, out_channels),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.select = nn.Sequential(
            nn.Conv2d(out_channels, width, 1, bias=False),
            BranchNorm(norm_cfg, width, pooled=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * out_channels, 1, bias=False),
        )

    @classmethod
    def from_convs(cls, convs: Sequence[nn.Conv2d], **cfg: Any) -> 'SK':
        """Builds the module from conv1 and conv2 of a bottleneck.

        Raises:
            ValueError: If the block is no bottleneck.
        """
        conv1, conv2 = convs
        if to_2tuple(conv1.kernel_size) != (1, 1):
            raise ValueError(
                'SK doubles conv2 of a bottleneck. In a basic block conv2 is '
                'the last convolution, with no ReLU behind; take a network '
                'of bottlenecks (depth 50 or more)'
            )
        widths = conv2.in_channels, conv2.out_channels
        geometry = dict(stride=conv2.stride, dilation=conv2.dilation)
        return cls(*widths, **{**geometry, **cfg})

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Computes V, shape (N, C, H, W).

        Args:
            features: conv2's input and output, each behind norm and ReLU.
        """
        x, u1 = features
        u2 = self.conv(x)
        logits = self.select(self.pool(u1) + self.pool(u2))  # (N, 2C, 1, 1)
        weights = logits.unflatten(1, (2, -1)).softmax(1).to(u1.dtype)
        a1, a2 = weights.unbind(1)  # (N, C, 1, 1) each
        return a1 * u1 + a2 * u2
