"""BA²M-ResNet, -ResNeXt and their CIFAR variants in MMPretrain's registry."""

import re

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR, ResNeXt
from mmpretrain.models.backbones.resnext import Bottleneck
from mmpretrain.registry import MODELS

from .ba2m_stages import BA2MStagesMixin
from .block_plugins import BlockPluginsMixin


class _BA2MMixin(BA2MStagesMixin, BlockPluginsMixin):
    """What all backbones of this file share."""

    def get_layer_depth(self, param_name, prefix=''):
        """Gives BA²M the depth of the last block of its stage.

        For layer-wise learning rate decay; see MMPretrain's ResNet.
        """
        match = re.match(rf'{re.escape(prefix)}(layer\d+)\.ba2m\.', param_name)
        if match:
            last_block = len(getattr(self, match[1])) - 2
            param_name = param_name.replace('ba2m', str(last_block), 1)
        return super().get_layer_depth(param_name, prefix)


@MODELS.register_module()
class BA2MResNet(_BA2MMixin, ResNet):
    """ResNet with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet.
    """


@MODELS.register_module()
class BA2MResNet_CIFAR(_BA2MMixin, ResNet_CIFAR):
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


@MODELS.register_module()
class ResNeXt_CIFAR(ResNeXt, ResNet_CIFAR):
    """ResNeXt with a 3×3 stem for small images.

    Depth 29 is the network of the ResNeXt paper, of three stages
    (https://arxiv.org/abs/1611.05431).

    Arguments: those of MMPretrain's ResNeXt.
    """

    arch_settings = {29: (Bottleneck, (3, 3, 3)), **ResNeXt.arch_settings}


@MODELS.register_module()
class BA2MResNeXt_CIFAR(BA2MStagesMixin, BlockPluginsMixin, ResNeXt_CIFAR):
    """ResNeXt with a 3×3 stem for small images, and BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNeXt.
    """
