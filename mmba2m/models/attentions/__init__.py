"""Attention modules for the blocks and stages of residual networks."""

from .positions import FEATURE_MAP_POSITIONS

__all__ = ['FEATURE_MAP_POSITIONS']
