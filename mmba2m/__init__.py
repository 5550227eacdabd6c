"""BA²M, the batch-aware attention module, for MMDetection and MMPretrain.

Importing the package registers what the installed hosts allow:
``BA2MResNet`` and ``BA2MResNeXt`` in the registry of each host,
``AttentionResNet`` and ``AttentionResNeXt`` with other attention modules, and
``mmba2m.BA2M`` and ``mmba2m.BA2MAnnealHook`` for both. For MMDetection there
are also ``SoftmaxRetinaHead`` and ``mmba2m.VOCMetric``.
"""

from mmba2m.utils.stack import check_stack

from .version import __version__

#: The hosts that are installed and usable, e.g. ``('mmdet', 'mmpretrain')``.
HOSTS = check_stack()

# the stack is checked first
from . import engine, evaluation, models  # noqa: E402

__all__ = ['HOSTS', '__version__', 'engine', 'evaluation', 'models']
