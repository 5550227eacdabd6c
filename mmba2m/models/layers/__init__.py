"""Attention layers; they know neither host nor config."""

from .ba2m import BA2M

__all__ = ['BA2M']
