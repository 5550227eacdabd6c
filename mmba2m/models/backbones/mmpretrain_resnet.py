"""Attention ResNets and ResNeXts, with BA²M or not, for MMPretrain."""

import re

from mmpretrain.models.backbones import ResNet, ResNet_CIFAR, ResNeXt
from mmpretrain.models.backbones.resnext import Bottleneck
from mmpretrain.registry import MODELS

from .ba2m_stages import BA2MStagesMixin
from .block_plugins import BlockPluginsMixin


class _AttentionMixin(BlockPluginsMixin):
    """What all backbones of this file share."""

    def get_layer_depth(self, param_name, prefix=''):
        """Gives what is behind a stage the depth of the stage's last block.

        For layer-wise learning rate decay; see MMPretrain's ResNet.
        """
        match = re.match(
            rf'({re.escape(prefix)}layer(\d+)\.)[^\d.][^.]*(\..*)', param_name
        )
        if match:
            before, stage, behind = match.groups()
            last_block = self.stage_blocks[int(stage) - 1] - 1
            param_name = f'{before}{last_block}{behind}'
        return super().get_layer_depth(param_name, prefix)


@MODELS.register_module()
class AttentionResNet(_AttentionMixin, ResNet):
    """ResNet with attention modules.

    Arguments: those of :class:`AttentionMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet.
    """


@MODELS.register_module()
class AttentionResNet_CIFAR(_AttentionMixin, ResNet_CIFAR):
    """ResNet with a 3×3 stem for small images, and attention modules.

    Arguments: those of :class:`AttentionMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet_CIFAR.
    """


@MODELS.register_module()
class AttentionResNeXt(_AttentionMixin, ResNeXt):
    """ResNeXt with attention modules.

    Arguments: those of :class:`AttentionMixin`, :class:`BlockPluginsMixin`
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
class AttentionResNeXt_CIFAR(_AttentionMixin, ResNeXt_CIFAR):
    """ResNeXt with a 3×3 stem for small images, and attention modules.

    Arguments: those of :class:`AttentionMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNeXt.
    """


@MODELS.register_module()
class BA2MResNet(BA2MStagesMixin, AttentionResNet):
    """ResNet with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet.
    """


@MODELS.register_module()
class BA2MResNet_CIFAR(BA2MStagesMixin, AttentionResNet_CIFAR):
    """ResNet with a 3×3 stem for small images, and BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNet_CIFAR.
    """


@MODELS.register_module()
class BA2MResNeXt(BA2MStagesMixin, AttentionResNeXt):
    """ResNeXt with BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNeXt.
    """


@MODELS.register_module()
class BA2MResNeXt_CIFAR(BA2MStagesMixin, AttentionResNeXt_CIFAR):
    """ResNeXt with a 3×3 stem for small images, and BA²M after its stages.

    Arguments: those of :class:`BA2MStagesMixin`, :class:`BlockPluginsMixin`
    and of MMPretrain's ResNeXt.
    """
