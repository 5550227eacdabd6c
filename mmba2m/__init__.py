"""BA²M, the batch-aware attention module, for MMDetection and MMPretrain.

Importing the package registers what the installed hosts allow:
``BA2MResNet`` and ``BA2MResNeXt`` in the registry of each host, and
``mmba2m.BA2M`` and ``mmba2m.BA2MAnnealHook`` for both.
"""

from mmba2m.utils.stack import check_stack

from .version import __version__

#: The hosts that are installed and usable, e.g. ``('mmdet', 'mmpretrain')``.
HOSTS = check_stack()

from . import engine, models  # noqa: E402  (the stack is checked first)

__all__ = ['HOSTS', '__version__', 'engine', 'models']
