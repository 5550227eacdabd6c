"""Gather-excite: exploiting feature context.

Paper: https://arxiv.org/abs/1810.12348. With global extent, ``theta`` and
``theta+`` are the layers of the authors' network definitions
(https://github.com/hujie-frank/GENet). For the smaller extents none are
published; ReLU between the norms of their convolutions is a reading.
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmba2m.registry import MODELS

from .arguments import check_map_size, reduce_channels, take_map_size
from .names import FEATURE_MAP_POSITIONS
from .norm import BranchNorm

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
        ValueError: If an argument is out of range, ``map_size`` is missing,
            or, in ``forward``, the map has another size.
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
        for name, value, known in (
            ('variant', variant, VARIANTS),
            ('extent', extent, EXTENTS),
        ):
            if value not in known:
                raise ValueError(f'{name} must be of {known}, got {value!r}')
        self.variant = variant
        self.extent = extent
        self.map_size = None
        if variant == 'theta-':
            self.gather = self._pool()
        else:
            if extent == 'global':
                instead = "extent 2, 4 or 8, or variant='theta-'"
                self.map_size = take_map_size(self, map_size, instead)
            self.gather = self._convolve(in_channels, bias, norm_cfg)
        self.excite = nn.Sequential()
        if variant == 'theta+':
            mid_channels = reduce_channels(self, in_channels, reduction)
            widths = ((in_channels, mid_channels), (mid_channels, in_channels))
            for width in widths:
                self.excite.append(nn.ReLU(inplace=True))
                self.excite.append(nn.Conv2d(*width, 1))
            self._init_excite()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        check_map_size(self, x)
        gate = self.excite(self.gather(x)).sigmoid()  # (N, C, ⌈H/e⌉, ⌈W/e⌉)
        if self.extent != 'global':
            gate = F.interpolate(gate, x.shape[-2:], mode='nearest')
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

    def _pool(self):
        if self.extent == 'global':
            return nn.AdaptiveAvgPool2d(1)
        e = self.extent
        return nn.AvgPool2d(2 * e - 1, e, e - 1, count_include_pad=False)

    def _convolve(self, channels, bias, norm_cfg):
        pooled = self.extent == 'global'
        depth, cfg = 1, dict(kernel_size=self.map_size)
        if not pooled:
            depth = self.extent.bit_length() - 1
            cfg = dict(kernel_size=3, stride=2, padding=1)
        cfg.update(groups=channels, bias=bias)
        layers = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, channels, **cfg),
                BranchNorm(norm_cfg, channels, pooled=pooled),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers[:-1])  # no ReLU in front of the sigmoid
