import pytest
import torch
from mmengine.config import ConfigDict

pytest.importorskip('mmdet')

from mmdet.registry import MODELS

CLASSES = 3
SIZE = 64
METAS = [dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), scale_factor=1)]

ANCHORS = dict(type='AnchorGenerator', ratios=[0.5, 1.0], strides=[8, 16])
ANCHORS.update(octave_base_scale=2, scales_per_octave=2)
ASSIGNER = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4)
ASSIGNER.update(min_pos_iou=0, ignore_iof_thr=-1)
NMS = dict(type='nms', iou_threshold=0.5)


def build_head(**kwargs):
    cfg = ConfigDict(
        type='SoftmaxRetinaHead',
        **dict(num_classes=CLASSES, stacked_convs=1),
        **dict(in_channels=8, feat_channels=8),
        anchor_generator=ANCHORS,
        train_cfg=dict(
            assigner=ASSIGNER,
            sampler=dict(type='PseudoSampler'),
            **dict(allowed_border=-1, pos_weight=-1, debug=False),
        ),
        test_cfg=dict(nms_pre=100, score_thr=0.0, max_per_img=100, nms=NMS),
    )
    cfg.update(kwargs)
    head = MODELS.build(cfg)
    head.init_weights()
    return head


def make_maps(n, scale=1.0):
    return tuple(
        torch.randn(n, 8, SIZE // s, SIZE // s) * scale for s in (8, 16)
    )


def probabilities(head, maps):
    """Per anchor, classes first and background last."""
    scores, _ = head(maps)
    return torch.cat(
        [
            score.permute(0, 2, 3, 1).reshape(-1, CLASSES + 1).softmax(-1)
            for score in scores
        ]
    )


@pytest.mark.parametrize('prior', [0.01, 0.2])
def test_every_anchor_starts_with_the_prior(prior):
    head = build_head(prior_prob=prior)
    found = probabilities(head, make_maps(2, scale=0.0))
    assert found.shape == (2 * 4 * (64 + 16), CLASSES + 1)
    expected = torch.tensor([prior / CLASSES] * CLASSES + [1 - prior])
    torch.testing.assert_close(found, expected.expand_as(found))


def test_a_second_call_keeps_trained_weights():
    head = build_head()
    bias = head.retina_cls.bias.detach().normal_()
    kept = bias.clone()
    head.init_weights()
    assert torch.equal(head.retina_cls.bias, kept)


def test_predictions_leave_background_out():
    head = build_head().eval()
    with torch.no_grad():
        bias = head.retina_cls.bias.view(-1, CLASSES + 1)
        bias[:] = torch.tensor([0.0, 2.0, 1.0, 3.0])
        head.retina_cls.weight.zero_()
        results = head.predict_by_feat(
            *head(make_maps(1)), batch_img_metas=METAS
        )
    expected = torch.tensor([0.0, 2.0, 1.0, 3.0]).softmax(-1)
    assert set(results[0].labels.tolist()) <= {0, 1, 2}
    torch.testing.assert_close(
        results[0].scores, expected[results[0].labels], rtol=1e-5, atol=1e-6
    )
    assert results[0].labels[0] == 1


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(prior_prob=0.0), '0 < prior_prob < 1, got 0.0'),
        (dict(prior_prob=1), '0 < prior_prob < 1, got 1'),
        (dict(loss_cls=dict(type='FocalLoss')), 'needs a softmax loss'),
        (
            dict(loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True)),
            'needs a softmax loss',
        ),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_head(**kwargs)
