"""ResNet and ResNeXt with attention modules, for MMPretrain.

All take the arguments of MMPretrain's network of that name, and those of
:class:`AttentionMixin` or :class:`BA2MStagesMixin`. The stem of those that end
in CIFAR is one 3×3 convolution, for small images.
"""

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR, ResNeXt
from mmpretrain.models.backbones.resnext import Bottleneck
from mmpretrain.registry import MODELS

from .attention_backbone import LayerDepthMixin
from .ba2m_stages import BA2MStagesMixin
from .slots import AttentionMixin


@MODELS.register_module()
class ResNeXt_CIFAR(ResNeXt, ResNet_CIFAR):
    """ResNeXt for small images, which MMPretrain lacks.

    Depth 29 is the network of the ResNeXt paper, of three stages
    (https://arxiv.org/abs/1611.05431).
    """

    arch_settings = {29: (Bottleneck, (3, 3, 3)), **ResNeXt.arch_settings}


@MODELS.register_module()
class AttentionResNet(LayerDepthMixin, AttentionMixin, ResNet):
    """ResNet with attention modules."""


@MODELS.register_module()
class AttentionResNet_CIFAR(LayerDepthMixin, AttentionMixin, ResNet_CIFAR):
    """ResNet for small images, with attention modules."""


@MODELS.register_module()
class AttentionResNeXt(LayerDepthMixin, AttentionMixin, ResNeXt):
    """ResNeXt with attention modules."""


@MODELS.register_module()
class AttentionResNeXt_CIFAR(LayerDepthMixin, AttentionMixin, ResNeXt_CIFAR):
    """ResNeXt for small images, with attention modules."""


@MODELS.register_module()
class BA2MResNet(BA2MStagesMixin, AttentionResNet):
    """ResNet with BA²M after its stages."""


@MODELS.register_module()
class BA2MResNet_CIFAR(BA2MStagesMixin, AttentionResNet_CIFAR):
    """ResNet for small images, with BA²M after its stages."""


@MODELS.register_module()
class BA2MResNeXt(BA2MStagesMixin, AttentionResNeXt):
    """ResNeXt with BA²M after its stages."""


@MODELS.register_module()
class BA2MResNeXt_CIFAR(BA2MStagesMixin, AttentionResNeXt_CIFAR):
    """ResNeXt for small images, with BA²M after its stages."""
