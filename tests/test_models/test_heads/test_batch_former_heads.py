import pickle
from copy import deepcopy
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from batches import make_roi_targets
from mmengine.registry import MODELS

from mmba2m import HOSTS

needs_mmdet = pytest.mark.skipif('mmdet' not in HOSTS, reason='of MMDetection')
needs_mmpretrain = pytest.mark.skipif(
    'mmpretrain' not in HOSTS, reason='of MMPretrain'
)
NO_DROPOUT = dict(dropout=0.0)
close = torch.testing.assert_close


def build(scope, cfg):
    torch.manual_seed(0)
    import_module(f'{scope}.models')
    with MODELS.switch_scope_and_registry(scope) as registry:
        head = registry.build(cfg)
    head.init_weights()
    return head


# Classifiers


def build_cls_head(**kwargs):
    cfg = dict(type='mmba2m.BatchFormerClsHead', num_classes=3, in_channels=8)
    return build('mmpretrain', dict(cfg, batch_former=NO_DROPOUT) | kwargs)


def make_labels(soft):
    from mmpretrain.structures import DataSample

    labels = torch.tensor([2, 0, 1, 1])
    scores = F.one_hot(labels, 3).float() * 0.7 + 0.1
    if soft:  # as of mixup
        return [DataSample().set_gt_score(score) for score in scores], scores
    return [DataSample().set_gt_label(label) for label in labels], labels


@needs_mmpretrain
@pytest.mark.parametrize('soft', [False, True])
def test_a_classifier_is_trained_on_plain_and_mixed_samples(soft):
    loss = dict(type='CrossEntropyLoss', use_soft=soft, loss_weight=2.0)
    head = build_cls_head(loss=loss)
    x = torch.randn(4, 8, requires_grad=True)
    samples, target = make_labels(soft)
    losses = head.loss((None, x), samples)
    mixed = head.batch_former.encoder(x)
    entropies = [F.cross_entropy(head.fc(z), target) for z in (x, mixed)]
    # the mean of 2N samples is the mean of the two means
    expected = 2.0 * sum(entropies) / 2
    close(losses, dict(loss=expected))
    parameters = [x, *head.parameters()]
    close(
        torch.autograd.grad(losses['loss'], parameters, retain_graph=True),
        torch.autograd.grad(expected, parameters),
    )


@needs_mmpretrain
def test_without_training_a_classifiers_head_is_stock():
    head = build_cls_head().eval()
    stock = build(
        'mmpretrain',
        dict(type='LinearClsHead') | dict(num_classes=3, in_channels=8),
    )
    state = head.state_dict()
    kept = {k: v for k, v in state.items() if 'batch_former' not in k}
    stock.load_state_dict(kept)
    head.batch_former.forward = None  # nothing of it runs
    x = torch.randn(4, 8)
    samples, _ = make_labels(False)
    assert torch.equal(head((x,)), stock((x,)))
    assert head.loss((x,), samples) == stock.loss((x,), samples)


# Detectors


def build_box_head(**kwargs):
    cfg = dict(type='mmba2m.BatchFormerBBoxHead', num_classes=3)
    cfg |= dict(in_channels=4, roi_feat_size=3, fc_out_channels=8)
    return build('mmdet', dict(cfg, batch_former=NO_DROPOUT) | kwargs)


@needs_mmdet
@pytest.mark.parametrize('agnostic', [True, False])
def test_losses_of_rois_are_the_means_of_plain_and_mixed(agnostic):
    head = build_box_head(
        reg_class_agnostic=agnostic,
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=3.0),
        loss_bbox=dict(type='L1Loss', loss_weight=2.0),
    )
    x = torch.randn(6, 4, 3, 3)
    labels, label_weights, boxes, box_weights = targets = make_roi_targets()
    scores, deltas = head(x)
    hidden = x.flatten(1)
    for layer in head.shared_fcs:
        hidden = layer(hidden).relu()
    mixed = head.batch_former.encoder(hidden)
    assert torch.equal(scores, head.fc_cls(hidden))
    assert torch.equal(deltas, head.fc_reg(hidden))

    # as of a batch of 2n RoIs: MMDetection divides losses of classes by the
    # number of weights above 0, those of boxes by that of RoIs
    features, rows = torch.cat([hidden, mixed]), torch.arange(12)
    entropies = F.cross_entropy(
        head.fc_cls(features), labels.repeat(2), reduction='none'
    )
    loss_cls = 3 * (label_weights.repeat(2) * entropies).sum() / 10
    found = head.fc_reg(features).view(12, -1, 4)
    own = labels.repeat(2) * (not agnostic) % found.size(1)
    errors = (found[rows, own] - boxes.repeat(2, 1)).abs()
    loss_bbox = 2 * (errors * box_weights.repeat(2, 1)).sum() / 12
    losses = head.loss(scores, deltas, torch.zeros(6, 5), *targets)
    accuracy = 100 * (scores.argmax(1) == labels).float().mean()
    close(losses.pop('acc'), accuracy[None])
    close(losses, dict(loss_cls=loss_cls, loss_bbox=loss_bbox))
    parameters = list(head.parameters())
    close(
        torch.autograd.grad(sum(losses.values()), parameters),
        torch.autograd.grad(loss_cls + loss_bbox, parameters),
    )
    # used up
    other = head.loss(scores, deltas, None, *targets)
    assert other['loss_cls'] != losses['loss_cls']


@needs_mmdet
def test_what_a_sampler_asks_for_is_of_plain_rois():
    head = build_box_head()
    x = torch.randn(6, 4, 3, 3)
    labels, label_weights, *_ = make_roi_targets()
    head(x[:2])  # nobody asked for its loss
    with torch.no_grad():  # as OHEM does
        scores, _ = head(x)
        loss = head.loss(
            cls_score=scores,
            bbox_pred=None,
            rois=None,
            labels=labels,
            label_weights=label_weights,
            bbox_targets=None,
            bbox_weights=None,
            reduction_override='none',
        )['loss_cls']
    entropies = F.cross_entropy(scores, labels, reduction='none')
    close(loss, label_weights * entropies)


@needs_mmdet
def test_a_head_without_boxes_and_copies_of_heads():
    head = build_box_head(with_reg=False)
    scores, deltas = head(torch.randn(6, 4, 3, 3))
    assert deltas is None
    assert head.loss(scores, None, None, *make_roi_targets())['loss_cls'] > 0
    for other in (pickle.loads(pickle.dumps(head)), deepcopy(head)):
        assert type(other) is type(head)
        other.load_state_dict(head.state_dict())
    assert build_box_head().batch_former.sync_batch is False
    assert build_box_head(
        batch_former=dict(sync_batch=True)
    ).batch_former.sync_batch


@pytest.mark.parametrize(
    ('scope', 'base', 'options', 'message'),
    [
        ('mmpretrain', 'NoHead', {}, "there is no 'NoHead'"),
        ('mmpretrain', 'ClsHead', {}, '^BatchFormerClsHead .*channels=None'),
        (
            'mmpretrain',
            'ConformerHead',
            dict(num_classes=3, in_channels=[4, 8]),
            r'in_channels=\[4, 8\]',
        ),
        ('mmdet', 'SABLHead', dict(num_classes=3), 'its base has cls_fcs$'),
        (
            'mmdet',
            'ConvFCBBoxHead',
            dict(num_shared_convs=1, num_cls_fcs=1, num_reg_convs=1),
            'only, the last a linear one; its base has cls_fcs, reg_convs',
        ),
        ('mmdet', 'Shared2FCBBoxHead', dict(fc_out_channels=6), 'no divisor'),
    ],
)
def test_what_does_not_fit_is_named(scope, base, options, message):
    if scope not in HOSTS:
        pytest.skip(f'of {scope}')
    kind = dict(mmdet='BBox', mmpretrain='Cls')[scope]
    cfg = dict(type=f'mmba2m.BatchFormer{kind}Head', base=base, **options)
    with pytest.raises(ValueError, match=message) as caught:
        build(scope, cfg)
    assert '\n' not in str(caught.value)
