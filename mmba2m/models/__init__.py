"""Attention modules, the backbones that carry them, and heads."""

from . import attentions, backbones, dense_heads, heads, necks

__all__ = ['attentions', 'backbones', 'dense_heads', 'heads', 'necks']
