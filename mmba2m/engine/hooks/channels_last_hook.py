"""Classifiers in the memory layout channels_last."""

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmba2m.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lays out a classifier's weights as NHWC before a run begins.

    Feature maps follow the weights, so the images need no change. The numbers
    are the same except for rounding; convolutions are often faster, on CPUs
    and, with mixed precision, on GPUs. Checkpoints load in both layouts.

    In distributed training the model is wrapped before a hook can act, and
    DistributedDataParallel has laid out its buckets as NCHW by then: at the
    first iteration it would hand back permuted gradients. Not so where
    gradients are views of the buckets (``gradient_as_bucket_view=True`` in
    ``model_wrapper_cfg``).

    Raises:
        TypeError: If the model has operators of MMCV, as detectors have. They
            take the numbers of a map to lie as NCHW and, with any other
            layout, compute something else (RoIAlign of MMCV 2.1 and 2.3).
        ValueError: If the model is wrapped without that.
    """

    def before_run(self, runner):
        """Converts the model in place."""
        views = getattr(runner.model, 'gradient_as_bucket_view', False)
        if is_model_wrapper(runner.model) and not views:
            raise ValueError(
                'ChannelsLastHook: the first gradients of a distributed run '
                'would be wrong. Set model_wrapper_cfg=dict('
                "type='MMDistributedDataParallel', broadcast_buffers=False, "
                'gradient_as_bucket_view=True)'
            )
        for name, module in runner.model.named_modules():
            if type(module).__module__.startswith('mmcv.ops'):
                raise TypeError(
                    f'ChannelsLastHook: {name} is a {type(module).__name__} '
                    'of MMCV, which computes something else on maps of this '
                    'layout. Train this model without the hook'
                )
        runner.model.to(memory_format=torch.channels_last)
