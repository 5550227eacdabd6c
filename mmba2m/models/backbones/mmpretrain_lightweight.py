"""Lightweight networks for small images (Table X), in MMPretrain's registry.

MMPretrain's are for ImageNet: their stems reduce an image fourfold. Here the
stem keeps its size. All take the arguments of MMPretrain's network of that
name, and those with BA²M also those of :class:`BA2MStagesMixin`.
"""

import torch
from mmpretrain.models.backbones import (
    DenseNet,
    EfficientNet,
    MobileNetV2,
    ShuffleNetV2,
)
from mmpretrain.registry import MODELS
from torch import nn

from .ba2m_stages import BA2MStagesMixin


@MODELS.register_module()
class DenseNet_CIFAR(DenseNet):
    """DenseNet whose stem is one 3×3 convolution.

    Paper: https://arxiv.org/abs/1608.06993.
    """

    def __init__(self, *args, in_channels=3, **kwargs):
        super().__init__(*args, in_channels=in_channels, **kwargs)
        self.stem = nn.Conv2d(
            in_channels, self.init_channels, 3, padding=1, bias=False
        )


@MODELS.register_module()
class BA2MDenseNet_CIFAR(BA2MStagesMixin, DenseNet_CIFAR):
    """DenseNet with BA²M after its transitions, as ``transitions.i.ba2m``."""


@MODELS.register_module()
class ShuffleNetV2_CIFAR(ShuffleNetV2):
    """ShuffleNetV2 whose stem has stride 1 and no pooling."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.conv1.conv.stride = (1, 1)
        self.maxpool = nn.Identity()


@MODELS.register_module()
class BA2MShuffleNetV2_CIFAR(BA2MStagesMixin, ShuffleNetV2_CIFAR):
    """ShuffleNetV2 with BA²M after its three stages, as ``layers.i.ba2m``."""


@MODELS.register_module()
class MobileNetV2_CIFAR(MobileNetV2):
    """MobileNetV2 with strides for small images.

    Stem and the stage of 160 channels have stride 1. The convolutions carry a
    bias, which the norm behind takes out again: so does the public network
    whose 2.26 M parameters the paper prints.
    """

    arch_settings = [
        [*setting[:3], 1 if setting[1] == 160 else setting[3]]
        for setting in MobileNetV2.arch_settings
    ]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.conv1.conv.stride = (1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.zeros(module.out_channels))


@MODELS.register_module()
class BA2MMobileNetV2_CIFAR(BA2MStagesMixin, MobileNetV2_CIFAR):
    """MobileNetV2 with BA²M after its seven stages, as ``layer{i}.ba2m``."""


@MODELS.register_module()
class EfficientNet_CIFAR(EfficientNet):
    """EfficientNet whose stem has stride 1."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.layers[0].conv.stride = (1, 1)


@MODELS.register_module()
class BA2MEfficientNet_CIFAR(BA2MStagesMixin, EfficientNet_CIFAR):
    """EfficientNet with BA²M after its five stages, as ``layers.i.ba2m``.

    The first of them is ``layers.1``, behind the stem.
    """
