"""BA²M, the batch-aware attention module, for MMDetection and MMPretrain.

Importing the package registers what the installed hosts allow:
``BA2MResNet`` and ``BA2MResNeXt`` in the registry of each host,
``AttentionResNet`` and ``AttentionResNeXt`` with other attention modules, and
``mmba2m.BA2M`` and ``mmba2m.BA2MAnnealHook`` for both. For MMDetection there
are also ``SoftmaxRetinaHead`` and ``mmba2m.VOCMetric``. MMPretrain's
``list_models`` and ``get_model`` know our classifiers.

The command ``mmba2m`` prints a report on the environment, and runs the tools.
"""

import os
import sys
import warnings

from mmba2m.stack import check_stack

from .version import __version__

# The command imports this file before its own, and has to report on stacks
# that do not import; sys.argv[0] is '-m' while `python -m` looks for it
_called = (sys.argv or [''])[0]
if _called == '-m':
    _called = sys.orig_argv[-len(sys.argv)].removeprefix('-m')
_reports = os.path.basename(_called) == __name__
# set by tools that need no host: their import takes longer than their work
if _reports or os.environ.get('MMBA2M_WITHOUT_HOSTS'):
    HOSTS: tuple[str, ...] = ()
else:
    #: The hosts that are installed and usable, e.g. ('mmdet', 'mmpretrain')
    HOSTS = check_stack()

    # the stack is checked first
    from . import engine, models
    from .config_files import register_classifiers

    if 'mmpretrain' in HOSTS:
        register_classifiers()
    # MMDetection tells of it wherever its metrics are imported
    warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')

__all__ = ['HOSTS', '__version__', 'engine', 'models']
