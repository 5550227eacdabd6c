"""Heads that the paper's comparisons need and MMDetection lacks."""

from mmba2m import HOSTS

if 'mmdet' in HOSTS:
    from .softmax_retina_head import SoftmaxRetinaHead

    __all__ = ['SoftmaxRetinaHead']
