"""BA²M-ResNet and -ResNeXt in MMDetection's registry."""

from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.registry import MODELS

from .ba2m_stages import BA2MStagesMixin


@MODELS.register_module()
class BA2MResNet(BA2MStagesMixin, ResNet):
    """ResNet with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin` and of MMDetection's ResNet.
    """


@MODELS.register_module()
class BA2MResNeXt(BA2MStagesMixin, ResNeXt):
    """ResNeXt with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin` and of MMDetection's ResNeXt.
    """
