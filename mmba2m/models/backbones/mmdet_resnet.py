"""ResNet and ResNeXt with attention modules, for MMDetection.

All take the arguments of MMDetection's network of that name, and those of
:class:`AttentionMixin` or :class:`BA2MStagesMixin`.
"""

from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.registry import MODELS

from .ba2m_stages import BA2MStagesMixin
from .slots import AttentionMixin


@MODELS.register_module()
class AttentionResNet(AttentionMixin, ResNet):
    """ResNet with attention modules."""


@MODELS.register_module()
class AttentionResNeXt(AttentionMixin, ResNeXt):
    """ResNeXt with attention modules."""


@MODELS.register_module()
class BA2MResNet(BA2MStagesMixin, AttentionResNet):
    """ResNet with BA²M after its stages."""


@MODELS.register_module()
class BA2MResNeXt(BA2MStagesMixin, AttentionResNeXt):
    """ResNeXt with BA²M after its stages."""
