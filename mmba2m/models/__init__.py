"""Layers, the backbones of each host that carry them, and heads."""

from . import attentions, backbones, dense_heads, layers

__all__ = ['attentions', 'backbones', 'dense_heads', 'layers']
