"""Metrics for MMEngine's evaluator."""

from mmba2m import HOSTS

if 'mmdet' in HOSTS:
    from .voc_metric import VOCMetric

    __all__ = ['VOCMetric']
