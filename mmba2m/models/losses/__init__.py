"""Losses for class frequencies that differ."""

from .balanced_softmax_loss import BalancedSoftmaxLoss

__all__ = ['BalancedSoftmaxLoss']
