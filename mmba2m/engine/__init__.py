"""What takes part in training: hooks."""

from . import hooks

__all__ = ['hooks']
