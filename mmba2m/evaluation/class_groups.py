"""Accuracy of the many, the medium and the few of a long tail."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from mmpretrain.evaluation import SingleLabelMetric

from mmba2m.registry import METRICS


@METRICS.register_module()
class ClassGroups(SingleLabelMetric):
    """Accuracy in groups of classes, the mean of their recalls in percent.

    Args:
        groups: Labels by name; the metrics are ``accuracy/NAME``.
        **kwargs: ``collect_device`` and ``prefix`` of MMPretrain's metric.

    Raises:
        ValueError: If a group is empty, and in evaluation if it names a class
            that the network does not have.
    """

    default_prefix = 'accuracy'

    def __init__(self, groups: dict[str, Sequence[int]], **kwargs: Any):
        if not groups or not all(groups.values()):
            raise ValueError(f'ClassGroups: {groups} has an empty group')
        super().__init__(items=('recall',), average=None, **kwargs)
        self.groups = groups

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Computes the metrics of all samples."""
        recalls = super().compute_metrics(results)['recall_classwise']
        labels = {label for group in self.groups.values() for label in group}
        unknown = labels - {*range(len(recalls))}
        if unknown:
            raise ValueError(
                f'ClassGroups: no classes {sorted(unknown)} of {len(recalls)}'
            )
        return {
            name: mean(recalls[label] for label in group)
            for name, group in self.groups.items()
        }
