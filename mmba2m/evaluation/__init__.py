"""Metrics that the paper's tables need and the hosts lack."""

from . import metrics

__all__ = ['metrics']
