# Half of ResNet-18's width, small heads, and what helps from scratch: norms
# in the pyramid, as many positive as negative RoIs.
_base_ = './faster-rcnn_ba2m-r18_fpn_small.py'

model = dict(
    backbone=dict(base_channels=32),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        num_outs=4,
        norm_cfg=dict(type='BN'),
    ),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64, pos_fraction=0.5))),
)
