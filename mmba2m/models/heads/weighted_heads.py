"""MMDetection's heads with weights of their samples' losses."""

from typing import Any

from mmdet.models.dense_heads import AnchorHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import nn

from mmba2m.models.host_classes import extend_class, find_class
from mmba2m.registry import MODELS

from .batch_weights import WeightedAnchorsMixin, WeightedRoIsMixin


@MODELS.register_module()
def BatchWeightedBBoxHead(
    base: str | type = 'Shared2FCBBoxHead', **kwargs: Any
) -> nn.Module:
    """Builds a box head whose RoIs weigh as the batch decides, in training.

    ``roi_head=dict(bbox_head=dict(type='mmba2m.BatchWeightedBBoxHead'))``
    over a stock config is enough. The losses of each RoI, of classes and
    boxes, are multiplied by a weight that is 1 in the mean of all RoIs; they
    are divided by what they were divided by.

    Args:
        base: The host's head: a ``BBoxHead`` with the loss of that class.
        **kwargs: Its arguments, and ``batch_weights``: options of
            :class:`BatchWeights`, and ``reduction``, 16 by default.

    Raises:
        ValueError: If there is no such head, or an option does not fit.
    """
    host = _find_host(base, BBoxHead, 'loss')
    return extend_class(host, WeightedRoIsMixin)(**kwargs)


@MODELS.register_module()
def BatchWeightedAnchorHead(
    base: str | type = 'RetinaHead', **kwargs: Any
) -> nn.Module:
    """Builds a dense head whose positions weigh as the batch decides.

    As :func:`BatchWeightedBBoxHead`, for
    ``bbox_head=dict(type='mmba2m.BatchWeightedAnchorHead')`` of a RetinaNet;
    the batch is that of all positions of all levels and images. ``base`` is
    an ``AnchorHead`` with the targets of that class.
    """
    methods = 'get_targets', '_get_targets_single'
    host = _find_host(base, AnchorHead, *methods)
    return extend_class(host, WeightedAnchorsMixin)(**kwargs)


def _find_host(base, kind, *methods):
    host = find_class(base)
    for method in methods:
        if getattr(host, method, None) is not getattr(kind, method):
            raise ValueError(
                f'base={host.__name__!r} is no {kind.__name__} with the '
                f'{method} of that class, which takes a weight of each sample'
            )
    return host
