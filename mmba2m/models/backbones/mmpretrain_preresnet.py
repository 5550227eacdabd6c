"""Pre-activation and wide residual networks, which MMPretrain lacks."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule, Sequential
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import nn

from .ba2m_stages import BA2MStagesMixin


class PreActBlock(BaseModule):
    """Residual block with norm and ReLU in front of each convolution.

    Paper: https://arxiv.org/abs/1603.05027. Where the width changes, the
    shortcut is a 1×1 convolution of the activated input.

    Args:
        in_channels: Channels of the input.
        channels: Channels inside the block.
        expansion: Output channels per channel inside: 1 for two 3×3
            convolutions, more for a bottleneck.
        stride: Stride of the block.
        norm_cfg: Config of the norms.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        expansion: int,
        stride: int,
        norm_cfg: dict,
    ):
        super().__init__()
        self.out_channels = out_channels = channels * expansion
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]
        self.relu = nn.ReLU(inplace=True)
        if expansion == 1:
            layers = [(channels, 3, stride), (channels, 3, 1)]
        else:
            layers = [
                (channels, 1, 1),
                (channels, 3, stride),
                (out_channels, 1, 1),
            ]
        self.convs = nn.Sequential()
        width = in_channels
        for i, (out, kernel_size, stride_) in enumerate(layers):
            conv = ConvModule(
                width,
                out,
                kernel_size,
                stride_,
                padding=kernel_size // 2,
                bias=False,
                # the first norm is outside, the shortcut takes it as well
                norm_cfg=norm_cfg if i else None,
                act_cfg=dict(type='ReLU') if i else None,
                order=('norm', 'act', 'conv'),
            )
            self.convs.append(conv)
            width = out
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(
                in_channels, out_channels, 1, stride, bias=False
            )

    def forward(self, x):
        """(N, C, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        out = self.relu(self.norm(x))
        if self.shortcut is not None:
            x = self.shortcut(out)
        return x + self.convs(out)


@MODELS.register_module()
class PreResNet_CIFAR(BaseBackbone):
    """Pre-activation ResNet for small images, with three stages.

    Wide residual networks (https://arxiv.org/abs/1605.07146) are
    WRN-28-k = ``PreResNet_CIFAR((4, 4, 4), base_channels=16 * k)``.

    Args:
        depths: Blocks of each stage.
        base_channels: Channels inside the blocks of the first stage, doubled
            from stage to stage. Defaults to 16.
        expansion: 1 for blocks of two 3×3 convolutions, 4 for bottlenecks.
            Defaults to 1.
        stem_channels: Channels of the stem. Defaults to 16.
        out_indices: Stages that are put out; the last one with its norm and
            ReLU. ``None`` for the last stage. Defaults to None.
        frozen_stages: Stages that are frozen, with the stem; -1 for none.
            Defaults to -1.
        norm_cfg: Config of the norms. Defaults to ``dict(type='BN')``.
        init_cfg: Defaults to MMPretrain's for ResNet.
    """

    def __init__(
        self,
        depths: Sequence[int],
        base_channels: int = 16,
        expansion: int = 1,
        stem_channels: int = 16,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006 (only read)
        init_cfg: dict | list[dict] = [  # noqa: B006
            dict(type='Kaiming', layer=['Conv2d']),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
        ],
    ):
        super().__init__(init_cfg)
        self.num_stages = len(depths)
        self.out_indices = out_indices or (self.num_stages - 1,)
        self.frozen_stages = frozen_stages
        self.conv1 = nn.Conv2d(3, stem_channels, 3, padding=1, bias=False)
        self.res_layers = []
        width = stem_channels
        for i, depth in enumerate(depths):
            layer = Sequential()
            for j in range(depth):
                block = PreActBlock(
                    width,
                    base_channels * 2**i,
                    expansion,
                    stride=2 if i and not j else 1,
                    norm_cfg=norm_cfg,
                )
                layer.append(block)
                width = block.out_channels
            self.res_layers.append(f'layer{i + 1}')
            self.add_module(self.res_layers[-1], layer)
        self.feat_dim = width
        self.norm = build_norm_layer(norm_cfg, width)[1]
        self.relu = nn.ReLU(inplace=True)
        self._freeze_stages()

    def forward(self, x):
        """Puts out the stages of ``out_indices``, from (N, 3, H, W)."""
        x = self.conv1(x)
        outs = []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                last = i == self.num_stages - 1
                outs.append(self.relu(self.norm(x)) if last else x)
        return tuple(outs)

    def train(self, mode=True):
        """Sets the mode; frozen stages stay in ``eval()``."""
        super().train(mode)
        self._freeze_stages()

    def _freeze_stages(self):
        if self.frozen_stages >= 0:
            self.conv1.requires_grad_(False)
        for name in self.res_layers[: max(self.frozen_stages, 0)]:
            getattr(self, name).eval().requires_grad_(False)


@MODELS.register_module()
class BA2MPreResNet_CIFAR(BA2MStagesMixin, PreResNet_CIFAR):
    """Pre-activation ResNet for small images, with BA²M after its stages."""
