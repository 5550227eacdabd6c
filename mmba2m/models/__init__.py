"""Attention modules, the backbones that carry them, heads and losses."""

from . import attentions, backbones, dense_heads, heads, losses, necks

__all__ = [
    'attentions',
    'backbones',
    'dense_heads',
    'heads',
    'losses',
    'necks',
]
