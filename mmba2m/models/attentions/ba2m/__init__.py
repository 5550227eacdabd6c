"""BA²M; its layers know neither host nor config."""

from .module import BA2M

__all__ = ['BA2M']
