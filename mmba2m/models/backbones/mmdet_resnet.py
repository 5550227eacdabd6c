"""Attention ResNet and ResNeXt, with BA²M or not, for MMDetection."""

from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.registry import MODELS

from .slots import AttentionMixin
from .ba2m_stages import BA2MStagesMixin


@MODELS.register_module()
class AttentionResNet(AttentionMixin, ResNet):
    """ResNet with attention modules.

    Arguments: those of :class:`AttentionMixin` and of MMDetection's ResNet.
    """


@MODELS.register_module()
class AttentionResNeXt(AttentionMixin, ResNeXt):
    """ResNeXt with attention modules.

    Arguments: those of :class:`AttentionMixin` and of MMDetection's ResNeXt.
    """


@MODELS.register_module()
class BA2MResNet(BA2MStagesMixin, AttentionResNet):
    """ResNet with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin` and of MMDetection's ResNet.
    """


@MODELS.register_module()
class BA2MResNeXt(BA2MStagesMixin, AttentionResNeXt):
    """ResNeXt with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin` and of MMDetection's ResNeXt.
    """
