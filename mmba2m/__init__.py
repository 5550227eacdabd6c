"""BA²M, the batch-aware attention module, for MMDetection and MMPretrain.

Importing the package registers what the installed hosts allow:
``BA2MResNet`` and ``BA2MResNeXt`` in the registry of each host,
``AttentionResNet`` and ``AttentionResNeXt`` with other attention modules, and
``mmba2m.BA2M`` and ``mmba2m.BA2MAnnealHook`` for both. For MMDetection there
are also ``SoftmaxRetinaHead`` and ``mmba2m.VOCMetric``. MMPretrain's
``list_models`` and ``get_model`` know our classifiers.

``python -m mmba2m`` prints a report on the environment.
"""

import sys

from mmba2m.stack import check_stack

from .version import __version__

# `python -m mmba2m` imports this file before its own, and has to report on
# stacks that do not import; sys.argv[0] is '-m' while it is looked for
if sys.argv[:1] == ['-m'] and (
    sys.orig_argv[-len(sys.argv)].removeprefix('-m') == __name__
):
    HOSTS: tuple[str, ...] = ()
else:
    #: The hosts that are installed and usable, e.g. ('mmdet', 'mmpretrain')
    HOSTS = check_stack()

    # the stack is checked first
    from . import engine, evaluation, models
    from .config_files import register_classifiers

    if 'mmpretrain' in HOSTS:
        register_classifiers()

__all__ = ['HOSTS', '__version__', 'engine', 'evaluation', 'models']
