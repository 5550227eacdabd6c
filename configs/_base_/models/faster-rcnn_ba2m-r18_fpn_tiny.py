# Half of ResNet-18's width without its last stage, small heads, and what helps
# from scratch: norms in the pyramid, as many positive as negative RoIs.
_base_ = './faster-rcnn_ba2m-r18_fpn_small.py'

model = dict(
    backbone=dict(
        base_channels=32,
        stem_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
    ),
    neck=dict(
        in_channels=[32, 64, 128],
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
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[4, 8, 16]),
        bbox_head=dict(in_channels=64, fc_out_channels=64),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=64, pos_fraction=0.5))),
)
