"""Classifiers in the memory layout channels_last."""

import torch
from mmengine.hooks import Hook

from mmba2m.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lays out a classifier's weights as NHWC before a run begins.

    Feature maps follow the weights, so the images need no change. The numbers
    are the same except for rounding; convolutions are often faster, on CPUs
    and, with mixed precision, on GPUs. Checkpoints load in both layouts.

    In distributed training the model is wrapped before a hook can act, so
    torch warns once, at the first iteration, that gradients have other
    strides than its buckets; it builds these again right after.

    Raises:
        TypeError: If the model has operators of MMCV, as detectors have. They
            take the numbers of a map to lie as NCHW and, with any other
            layout, compute something else (RoIAlign of MMCV 2.1 and 2.3).
    """

    def before_run(self, runner):
        """Converts the model in place."""
        for name, module in runner.model.named_modules():
            if type(module).__module__.startswith('mmcv.ops'):
                raise TypeError(
                    f'ChannelsLastHook: {name} is a {type(module).__name__} '
                    'of MMCV, which computes something else on maps of this '
                    'layout. Train this model without the hook'
                )
        runner.model.to(memory_format=torch.channels_last)
