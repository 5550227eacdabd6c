"""Metrics that the paper's tables need and the hosts lack."""

from mmba2m import HOSTS

if 'mmdet' in HOSTS:
    from .voc_metric import VOCMetric

    __all__ = ['VOCMetric']
