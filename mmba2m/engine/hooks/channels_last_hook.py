"""The weights of a network in the memory layout channels_last."""

import torch
from mmengine.hooks import Hook

from mmba2m.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lays out the weights of convolutions as NHWC before a run begins.

    Feature maps follow the weights, so the images need no change. The numbers
    are the same except for rounding; convolutions are often faster, on CPUs
    and, with mixed precision, on GPUs. Checkpoints load in both layouts.

    In distributed training the model is wrapped before a hook can act, so
    torch warns once, at the first iteration, that gradients have other
    strides than its buckets; it builds these again right after.
    """

    def before_run(self, runner):
        """Converts the model in place."""
        runner.model.to(memory_format=torch.channels_last)
