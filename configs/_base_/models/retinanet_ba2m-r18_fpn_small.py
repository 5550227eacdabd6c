# A RetinaNet to train from scratch on small images: all batch norms train, and
# the head is half as wide and deep as MMDetection's.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

model = dict(
    backbone=dict(
        type='BA2MResNet',
        depth=18,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
        ba2m_cfg=dict(reduction=4),
    ),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    bbox_head=dict(
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
    ),
)
