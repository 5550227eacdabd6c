"""Gather-excite: exploiting feature context.

Paper: https://arxiv.org/abs/1810.12348. With global extent, ``theta`` and
``theta+`` are the layers of the authors' network definitions
(https://github.com/hujie-frank/GENet). For the smaller extents none are
published; ReLU between the norms of their convolutions is a reading.
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmba2m.models.attentions.norm import BranchNorm
from mmba2m.registry import MODELS

from .positions import FEATURE_MAP_POSITIONS
from .reduction import reduce_channels

VARIANTS = ('theta-', 'theta', 'theta+')
EXTENTS = ('global', 2, 4, 8)


@MODELS.register_module()
class GE(BaseModule):
    """Gathers features over an extent, and scales what they came from.

    ``y = x · σ(interpolate(excite(gather(x))))``, interpolated to nearest.
    The variants are the paper's θ⁻, θ and θ⁺:

    - 'theta-': average pooling, no parameters; over (2e − 1)² positions in
      steps of the extent e.
    - 'theta': depthwise convolutions, each with a norm: log2(e) of 3×3 with
      stride 2, or a single one as large as the map for global extent.
    - 'theta+': as 'theta', then ReLU and two 1×1 convolutions, as in SE.

    Args:
        in_channels: Channels C of the input.
        variant: Defaults to 'theta'.
        extent: e, 'global' or 2, 4 or 8. Defaults to 'global'.
        map_size: (H, W) of the input, needed for global extent unless by
            'theta-', and not used elsewhere. Defaults to None.
        reduction: r of 'theta+'. Defaults to 16.
        bias: Whether the depthwise convolutions have a bias, which the norm
            behind takes out again. Defaults to False.
        norm_cfg: Norm behind the depthwise convolutions. Defaults to
            ``dict(type='BN')``.

    Raises:
        ValueError: If ``variant``, ``extent`` or ``reduction`` are out of
            range, ``map_size`` is missing, or, in ``forward``, the map has
            another size.
    """

    _abbr_ = 'ge'
    positions = FEATURE_MAP_POSITIONS

    def __init__(
        self,
        in_channels: int,
        variant: str = 'theta',
        extent: str | int = 'global',
        map_size: int | tuple[int, int] | None = None,
        reduction: int = 16,
        bias: bool = False,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(
                f'variant must be one of {VARIANTS}, got {variant!r}'
            )
        if extent not in EXTENTS:
            raise ValueError(
                f'extent must be one of {EXTENTS}, got {extent!r}'
            )
        self.variant = variant
        self.extent = extent
        self.map_size = None
        if variant == 'theta-':
            self.gather = self._pool()
        else:
            if extent == 'global':
                self.map_size = self._check_size(map_size)
            self.gather = self._convolve(in_channels, bias, norm_cfg)
        self.excite = nn.Sequential()
        if variant == 'theta+':
            mid_channels = reduce_channels(self, in_channels, reduction)
            self.excite.extend(
                [
                    nn.ReLU(inplace=True),
                    nn.Conv2d(in_channels, mid_channels, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(mid_channels, in_channels, 1),
                ]
            )
            self._init_excite()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        size = tuple(x.shape[-2:])
        if self.map_size not in (None, size):
            raise ValueError(
                f'GE was built for a map of {self.map_size}, got {size}'
            )
        gate = self.excite(self.gather(x)).sigmoid()  # (N, C, ⌈H/e⌉, ⌈W/e⌉)
        if self.extent != 'global':
            gate = F.interpolate(gate, size, mode='nearest')
        return x * gate

    def init_weights(self) -> None:
        """Lets the gates of 'theta+' start close to 1/2."""
        super().init_weights()
        self._init_excite()

    def _init_excite(self):
        # as in the authors' network definitions
        for layer in self.excite.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def _check_size(self, map_size):
        if map_size is None:
            raise ValueError(
                f'GE with variant={self.variant!r} and global extent has a '
                'kernel as large as the map, and needs map_size. In a '
                "backbone, its entry of 'attention' has one for each stage, "
                'as map_size=(56, 28, 14, 7) for images of 224×224; for '
                'images of any size, take extent 2, 4 or 8, or '
                "variant='theta-'"
            )
        return to_2tuple(map_size)

    def _pool(self):
        if self.extent == 'global':
            return nn.AdaptiveAvgPool2d(1)
        return nn.AvgPool2d(
            2 * self.extent - 1,
            stride=self.extent,
            padding=self.extent - 1,
            count_include_pad=False,
        )

    def _convolve(self, channels, bias, norm_cfg):
        pooled = self.extent == 'global'
        if pooled:
            depth, cfg = 1, dict(kernel_size=self.map_size)
        else:
            depth = self.extent.bit_length() - 1
            cfg = dict(kernel_size=3, stride=2, padding=1)
        layers = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(
                    channels, channels, groups=channels, bias=bias, **cfg
                ),
                BranchNorm(norm_cfg, channels, pooled=pooled),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers[:-1])  # no ReLU in front of the sigmoid

    def extra_repr(self) -> str:
        """Shows the arguments that submodules do not show."""
        return f'variant={self.variant!r}, extent={self.extent!r}'
