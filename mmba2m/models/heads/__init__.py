"""Heads of the hosts that train across the batch."""

from mmba2m import HOSTS

if 'mmdet' in HOSTS:
    from . import weighted_heads

    __all__ = ['weighted_heads']
