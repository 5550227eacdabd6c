import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from batches import make_roi_targets
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS

from mmba2m.models.heads.batch_weights import BatchWeights, SampleScores

SIZE = 64
ANCHORS = dict(type='AnchorGenerator', ratios=[0.5, 1.0], strides=[8, 16])
ANCHORS.update(octave_base_scale=2, scales_per_octave=2)
ASSIGNER = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4)
ASSIGNER.update(min_pos_iou=0, ignore_iof_thr=-1)
close = torch.testing.assert_close


def make_weights(**options):
    torch.manual_seed(0)
    return BatchWeights(SampleScores(8, 2), **options).double()


def make_samples(n=6):
    """Samples of unequal scale, and a loss of each."""
    torch.manual_seed(1)
    scale = torch.linspace(0.2, 3, n).view(-1, 1, 1, 1)
    x = (torch.randn(n, 8, 5, 5) * scale).double().requires_grad_()
    return x, torch.arange(1.0, n + 1).double()


def test_weights_are_the_softmax_of_the_scores():
    x, losses = make_samples()
    module = make_weights(bound=10.0, entropy=0.5)
    (weights,), added = module([x])
    scores = module.scores
    up = F.interpolate(scores.global_spatial(x), x.shape[-2:], mode='nearest')
    spatial = torch.maximum(scores.local_spatial(x), up)
    sar = torch.maximum(scores.channel(x), spatial).sigmoid().mean((1, 2, 3))
    spread = (sar - sar.mean()) / (sar.var(correction=0) + 1e-5).sqrt()
    norm = scores.norm.norm
    powers = 10 ** (norm.weight * spread + norm.bias).sigmoid()
    expected = 6 * powers / powers.sum()
    close(weights, expected)
    share = expected / 6
    close(
        added['loss_batch_weights'],
        0.5 * (math.log(6) + (share * share.log()).sum()),
    )
    close(added['batch_weights_std'], expected.std(correction=0))
    parameters = tuple(module.parameters())
    found, wanted = (
        torch.autograd.grad((w * losses).sum(), parameters)
        for w in (weights, expected)
    )
    close(found, wanted)
    assert any(grad.abs().max() > 1e-3 for grad in found)


def test_features_do_not_learn_from_the_weights():
    x, losses = make_samples()
    (weights,), _ = make_weights()([x])
    (weights * losses).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize('bound', [1.5, 4.0, 1e6])
def test_weights_lie_within_the_bound_and_have_a_mean_of_1(bound):
    module = BatchWeights(torch.nn.Identity(), bound=bound)
    for n in (1, 2, 100):
        for scores in (torch.eye(n)[0], 1 - torch.eye(n)[0], torch.ones(n)):
            (weights,), _ = module([scores.double()])
            assert 1 / bound < weights.min() * 1.00001
            assert weights.max() < bound * 1.00001
            close(weights.mean(), torch.ones(()).double())


def test_no_samples_have_no_weights():
    (weights,), added = make_weights()([torch.zeros(0, 8, 5, 5).double()])
    assert weights.shape == (0,)
    assert added['loss_batch_weights'] == added['batch_weights_std'] == 0


def run(**options):
    x, losses = make_samples()
    module = make_weights(**options)
    (weights,), added = module([x])
    grads, penalty = (
        torch.autograd.grad(part, (*module.parameters(),), retain_graph=True)
        for part in ((weights * losses).sum(), added['loss_batch_weights'])
    )
    return weights.detach(), grads, penalty, added


def test_hard_turns_the_gradient_of_the_losses_alone():
    weights, grads, *penalty = run()
    turned, against, *same = run(hard=True)
    assert torch.equal(turned, weights)
    close(against, tuple(-grad for grad in grads))
    close(same, penalty)


def test_shuffled_are_the_same_weights_of_other_samples():
    weights, *grads = run()
    shuffled, *same = run(shuffle=True)
    assert not torch.equal(shuffled, weights)
    assert torch.equal(shuffled.sort().values, weights.sort().values)
    close(same, grads)


def test_in_half_precision_weights_are_float32():
    x, _ = make_samples()
    with torch.autocast('cpu', torch.bfloat16):
        (weights,), _ = make_weights().float()([x.float()])
    assert weights.dtype == torch.float32


# RoIs


def build_box_head(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='mmba2m.BatchWeightedBBoxHead',
        **dict(in_channels=8, fc_out_channels=16, roi_feat_size=5),
        num_classes=3,
        reg_class_agnostic=True,
        loss_bbox=dict(type='L1Loss'),
    )
    return MODELS.build(dict(cfg, **kwargs))


def test_losses_of_rois_are_weighted_and_divided_as_before():
    head = build_box_head(batch_weights=dict(reduction=2, bound=50.0))
    x = make_samples()[0].float()
    # what a sampler asks for has no weights, and no part in those of the loss
    head(x)  # nobody asked for its loss
    with torch.no_grad():
        stock = head(x[:2])
        targets = [target[:2] for target in make_roi_targets()]
        assert 'loss_batch_weights' not in head.loss(*stock, None, *targets)
    labels, label_weights, boxes, box_weights = make_roi_targets()
    scores, deltas = head(x)
    (w,), added = deepcopy(head.batch_weights)([x])
    losses = head.loss(
        **dict(cls_score=scores, bbox_pred=deltas, rois=None, labels=labels),
        **dict(label_weights=label_weights, bbox_targets=boxes),
        bbox_weights=box_weights,
    )
    assert w.max() - w.min() > 0.1
    entropies = F.cross_entropy(scores, labels, reduction='none')
    # MMDetection divides by the weights above 0, and boxes by all RoIs
    close(losses['loss_cls'], (w * label_weights * entropies).sum() / 5)
    distances = ((deltas - boxes).abs() * box_weights).sum(1)
    close(losses['loss_bbox'], (w * distances).sum() / 6)
    close(losses['loss_batch_weights'], added['loss_batch_weights'])
    losses['loss_cls'].backward()
    assert all(p.grad is not None for p in head.batch_weights.parameters())


# Anchors


def build_anchor_head():
    torch.manual_seed(0)
    return MODELS.build(
        ConfigDict(
            type='mmba2m.BatchWeightedAnchorHead',
            **dict(num_classes=3, stacked_convs=1),
            **dict(in_channels=8, feat_channels=8),
            anchor_generator=ANCHORS,
            batch_weights=dict(reduction=2, bound=50.0),
            train_cfg=dict(
                assigner=ASSIGNER,
                sampler=dict(type='PseudoSampler'),
                **dict(allowed_border=-1, pos_weight=-1, debug=False),
            ),
        )
    )


def test_anchors_have_the_weights_of_their_positions():
    head = build_anchor_head()
    # 64 × 32: rows and columns are told apart
    maps = [torch.randn(2, 8, SIZE // s, 32 // s) * s for s in (8, 16)]
    boxes = torch.tensor([[4.0, 4, 30, 40], [2, 30, 20, 60]])
    truth = [
        InstanceData(bboxes=boxes[:n], labels=torch.arange(n)) for n in (1, 2)
    ]
    metas = [dict(img_shape=(SIZE, 32), pad_shape=(SIZE, 32))] * 2
    outputs = head(maps)
    weights, _ = deepcopy(head.batch_weights)(maps)
    close(torch.cat(weights, 1).mean(), torch.tensor(1.0))
    sizes = [x.shape[-2:] for x in maps]
    anchors, valid = head.get_anchors(sizes, metas, 'cpu')
    arguments = anchors, valid, truth, metas
    stock = RetinaHead.get_targets(head, *arguments)
    _, before, _, boxes_before, factor = stock
    _, after, _, boxes_after, same = head.get_targets(*arguments)
    assert same == factor
    assert torch.cat(boxes_before, 1).sum() > 0
    for level, stride in enumerate((8, 16)):
        corners = anchors[0][level]
        centers = (corners[:, :2] + corners[:, 2:]) / 2 / stride
        columns, rows = centers.round().long().unbind(1)
        w = weights[level].view(2, *sizes[level])[:, rows, columns]
        close(after[level], before[level] * w)
        close(boxes_after[level], boxes_before[level] * w[..., None])
    losses = head.loss_by_feat(*outputs, truth, metas)
    assert losses['loss_batch_weights'] > 0
    sum(losses['loss_cls']).backward()
    assert all(p.grad is not None for p in head.batch_weights.parameters())
    with torch.no_grad():  # as of a validation
        stock = RetinaHead.loss_by_feat(head, *outputs, truth, metas)
        close(head.loss_by_feat(*head(maps), truth, metas), stock)


SSD = dict(base='SSDHead', in_channels=(8, 16), anchor_generator=ANCHORS)


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        ('BBox', dict(batch_weights=dict(bound=1)), 'above 1, got 1'),
        ('BBox', dict(batch_weights=dict(entropy=-1)), 'positive, got -1'),
        ('BBox', dict(batch_weights=dict(reduction=0)), 'reduction'),
        ('BBox', dict(batch_weights=dict(bond=2)), 'bond'),
        ('BBox', dict(base='SABLHead'), "'SABLHead' is no BBoxHead"),
        ('Anchor', dict(base='ATSSHead'), "'ATSSHead' is no AnchorHead"),
        ('Anchor', dict(base='FSAFHead'), "'FSAFHead' is no AnchorHead"),
        ('Anchor', dict(base='NoHead'), "there is no 'NoHead'"),
        ('Anchor', SSD, r'one in_channels, its base has \(8, 16\)'),
    ],
)
def test_what_does_not_fit_is_named(kind, options, message):
    cfg = dict(type=f'mmba2m.BatchWeighted{kind}Head', **options)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        MODELS.build(dict(num_classes=3, in_channels=16) | cfg)
    assert '\n' not in str(caught.value)
