"""Data sets the hosts lack: shapes, drawn instead of downloaded."""

from .shapes import CLASSES as SHAPES_CLASSES
from .shapes import make_shapes

__all__ = ['SHAPES_CLASSES', 'make_shapes']
