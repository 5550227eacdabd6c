import numpy as np
import pytest
import torch
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet')

from mmba2m.evaluation import VOCMetric

CLASSES = ('cat', 'dog', 'cow')
BOXES = torch.tensor([[x, 0.0, x + 9, 9] for x in range(0, 100, 20)])
NOWHERE = torch.tensor([[0.0, 50, 9, 59]])


def sample(truth, found, ignored=()):
    """Lists of (class, box) and of (class, box, score)."""

    def instances(items):
        labels = torch.tensor([item[0] for item in items], dtype=torch.long)
        boxes = torch.stack([torch.zeros(4), *(item[1] for item in items)])
        return dict(bboxes=boxes[1:], labels=labels)

    scores = torch.tensor([item[2] for item in found])
    return dict(
        gt_instances=instances(truth),
        ignored_instances=instances(ignored),
        pred_instances=dict(**instances(found), scores=scores),
    )


def evaluate(samples, **kwargs):
    metric = VOCMetric(**kwargs)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def scene():
    """Four cats in two images, of which three are found; one dog, missed.

    By score, the detections of cats are right, wrong, right, right, wrong:
    precision 1, 1/2, 2/3, 3/4, 3/5 at recall 1/4, 1/4, 2/4, 3/4, 3/4.
    """
    first = sample(
        truth=[(0, BOXES[0]), (0, BOXES[1]), (1, BOXES[4])],
        found=[
            (0, BOXES[0], 0.9),
            (0, NOWHERE[0], 0.8),
            (0, BOXES[1], 0.7),
            (0, BOXES[1], 0.3),  # again: wrong
        ],
    )
    second = sample(
        truth=[(0, BOXES[0]), (0, BOXES[2])],
        # in the dog's class nothing is found, and no image has a cow
        found=[(0, BOXES[2], 0.6), (2, NOWHERE[0], 0.99)],
    )
    return [first, second]


@pytest.mark.parametrize(
    'eval_mode, cat',
    [
        # at recall 0, 0.1, 0.2: 1; at 0.3 to 0.7: 3/4; beyond: 0
        ('11points', (3 * 1 + 5 * 0.75) / 11),
        ('area', 0.25 * 1 + 0.5 * 0.75),
    ],
)
def test_values_worked_out_by_hand(eval_mode, cat):
    metrics = evaluate(scene(), eval_mode=eval_mode)
    assert list(metrics)[:2] == ['pascal_voc/mAP', 'pascal_voc/Recall']
    # the dog counts, with 0; the cow does not occur
    assert metrics == {
        'pascal_voc/mAP': pytest.approx(cat / 2, abs=1e-6),
        'pascal_voc/Recall': pytest.approx(0.75 / 2, abs=1e-6),
        'pascal_voc/AP50': pytest.approx(cat / 2, abs=1e-6),
        'pascal_voc/Recall50': pytest.approx(0.75 / 2, abs=1e-6),
    }
    assert all(isinstance(value, float) for value in metrics.values())


def test_map_is_that_of_mmdetection():
    from mmdet.evaluation import VOCMetric as Stock

    generator = torch.Generator().manual_seed(3)
    samples = []
    for _ in range(4):
        kinds = torch.randint(0, 3, (5,), generator=generator)
        truth = list(zip(kinds.tolist(), BOXES, strict=True))
        noise = torch.randn(5, 4, generator=generator) * 1.5
        scores = torch.rand(5, generator=generator).tolist()
        found = list(zip(kinds.tolist(), BOXES + noise, scores, strict=True))
        samples.append(sample(truth, found))
    ours = evaluate(samples, iou_thrs=[0.5, 0.75])
    stock = Stock(iou_thrs=[0.5, 0.75])
    stock.dataset_meta = dict(classes=CLASSES)
    stock.process({}, samples)
    expected = stock.evaluate(4)
    assert 0.1 < ours['pascal_voc/mAP'] < 0.95
    assert ours['pascal_voc/mAP'] == pytest.approx(expected['pascal_voc/mAP'])
    for thr in (50, 75):
        assert ours[f'pascal_voc/AP{thr}'] == pytest.approx(
            expected[f'pascal_voc/AP{thr}'],
            abs=6e-4,  # rounded there
        )
    recalls = [ours[f'pascal_voc/Recall{thr}'] for thr in (50, 75)]
    assert recalls[0] > recalls[1]
    assert ours['pascal_voc/Recall'] == pytest.approx(np.mean(recalls))


FOUND = [(0, BOXES[0], 0.9), (0, BOXES[1], 0.8)]
DIFFICULT = [
    sample([(0, BOXES[0])], FOUND, ignored=[(0, BOXES[1])]),
    sample([(0, BOXES[0])], [], ignored=[(0, BOXES[2])]),
]
# 10×10 against 10×5 pixels: IoU 0.5, and not 9 × 4 / 81
HALF = [sample([(0, BOXES[0])], [(0, torch.tensor([0.0, 0, 9, 4]), 0.9)])]
NOTHING = [sample([], []), sample([], [(0, BOXES[0], 0.9)])]


@pytest.mark.parametrize(
    'samples, expected',
    [(DIFFICULT, 0.5), (HALF, 1), (NOTHING, 0)],
    ids=['difficult objects', 'last pixels', 'nothing to find'],
)
def test_what_counts(samples, expected):
    metrics = evaluate(samples, eval_mode='area')
    assert [*metrics.values()] == [pytest.approx(expected)] * 4


def test_builds_from_the_scope_of_a_host():
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = MMENGINE_METRICS.build(dict(type='mmba2m.VOCMetric'))
    assert type(metric) is VOCMetric
    assert (metric.iou_thrs, metric.eval_mode) == ([0.5], '11points')


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(iou_thrs=[]), r'iou_thrs must be in \(0, 1\], got \[\]'),
        (dict(iou_thrs=50), r'iou_thrs must be in \(0, 1\], got 50'),
        (dict(eval_mode='11point'), "'11points' or 'area', got '11point'"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        VOCMetric(**kwargs)
