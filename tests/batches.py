"""Batches that a training step takes, and less of what takes its time."""

import torch


def make_batch(scope, model, *size):
    """Two unequal images for a model of a host, as its loader gives them."""
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            image_shapes=(3, *size),
            num_items=[3, 1],
            num_classes=3,  # no data set has fewer
            with_mask=model.with_mask,
        )
    from mmpretrain.structures import DataSample

    return dict(
        inputs=torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(label) for label in (0, 4)],
    )


def take_few_regions(model):
    """Changes the config of a detector: a few regions show what all do."""
    if 'roi_head' not in model:
        return
    model.train_cfg.rpn_proposal.max_per_img = 40
    model.test_cfg.rpn.max_per_img = 40
    if isinstance(model.train_cfg.rcnn, dict):
        model.train_cfg.rcnn.sampler.num = 32
        model.test_cfg.rcnn.max_per_img = 4


def make_roi_targets():
    """Of six RoIs, three of background, one of these not to be counted."""
    torch.manual_seed(2)
    labels = torch.tensor([0, 2, 1, 3, 3, 3])
    label_weights = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0, 0.0])
    boxes = torch.randn(6, 4)
    return labels, label_weights, boxes, (labels < 3).float()[:, None] * boxes
