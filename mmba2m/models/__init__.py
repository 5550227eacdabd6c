"""Layers, and the backbones of each host that carry them."""

from . import backbones, layers

__all__ = ['backbones', 'layers']
