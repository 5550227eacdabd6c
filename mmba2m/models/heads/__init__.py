"""Heads of the hosts that train across the batch."""

from mmba2m import HOSTS

from .batch_former import BatchFormerBBoxHead, BatchFormerClsHead

__all__ = ['BatchFormerBBoxHead', 'BatchFormerClsHead']

if 'mmdet' in HOSTS:
    from . import weighted_heads

    __all__ += ['weighted_heads']
