"""Layers, the backbones of each host that carry them, and heads."""

from . import backbones, dense_heads, layers

__all__ = ['backbones', 'dense_heads', 'layers']
