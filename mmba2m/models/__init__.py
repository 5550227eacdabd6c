"""Attention modules, the backbones that carry them, and heads."""

from . import attentions, backbones, dense_heads

__all__ = ['attentions', 'backbones', 'dense_heads']
