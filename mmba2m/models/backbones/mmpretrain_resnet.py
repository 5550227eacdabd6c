"""BA²M-ResNet, -ResNeXt and the CIFAR variant in MMPretrain's registry."""

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR, ResNeXt
from mmpretrain.registry import MODELS

from .ba2m_stages import BA2MStagesMixin
from .block_plugins import BlockPluginsMixin


@MODELS.register_module()
class BA2MResNet(BA2MStagesMixin, BlockPluginsMixin, ResNet):
    """ResNet with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet.
    """


@MODELS.register_module()
class BA2MResNet_CIFAR(BA2MStagesMixin, BlockPluginsMixin, ResNet_CIFAR):
    """ResNet with a 3×3 stem for small images, and BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet_CIFAR.
    """


@MODELS.register_module()
class BA2MResNeXt(BA2MStagesMixin, BlockPluginsMixin, ResNeXt):
    """ResNeXt with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNeXt.
    """
