"""Attention modules behind any backbone."""

from .attention_maps import AttentionMaps

__all__ = ['AttentionMaps']
