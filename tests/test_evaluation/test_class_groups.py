import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from mmba2m.evaluation import ClassGroups


def evaluate(groups):
    """Right are 1 of 4 samples of class 0, 1 of 1, and 1 of 2."""
    labels = [0, 0, 0, 0, 1, 2, 2]
    predictions = [0, 1, 2, 1, 1, 2, 0]
    evaluator = Evaluator(ClassGroups(groups))
    samples = [
        DataSample()
        .set_gt_label(label)
        .set_pred_score(torch.eye(3)[prediction])
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_accuracy_of_a_group_is_the_mean_of_its_recalls():
    assert evaluate(dict(many=[0], rest=[1, 2], all=(0, 1, 2))) == {
        'accuracy/many': 25,
        'accuracy/rest': 75,
        'accuracy/all': pytest.approx(175 / 3),
    }


def test_odd_groups_are_refused():
    with pytest.raises(ValueError, match='has an empty group'):
        ClassGroups(dict(many=[0], few=[]))
    with pytest.raises(ValueError, match=r'no classes \[-1, 3\] of 3'):
        evaluate(dict(many=[0], few=[-1, 3]))
