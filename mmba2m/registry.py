"""Registries of mmba2m: children of MMEngine's, so every host finds them.

``type='mmba2m.BA2M'`` builds from any scope, even where nothing of mmba2m
was imported before: MMEngine imports this file, then the ``locations``.
"""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmba2m',
    locations=['mmba2m.models'],
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmba2m',
    locations=['mmba2m.engine.hooks'],
)
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmba2m',
    locations=['mmba2m.evaluation'],
)
RUNNERS = Registry(
    'runner',
    parent=MMENGINE_RUNNERS,
    scope='mmba2m',
    locations=['mmba2m.engine.runner'],
)
