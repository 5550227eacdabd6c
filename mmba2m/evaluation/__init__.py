"""Metrics that the paper's tables and the studies need and the hosts lack."""

from mmba2m import HOSTS

__all__ = []

if 'mmdet' in HOSTS:
    from .voc_metric import VOCMetric

    __all__ += ['VOCMetric']
if 'mmpretrain' in HOSTS:
    from .class_groups import ClassGroups

    __all__ += ['ClassGroups']
