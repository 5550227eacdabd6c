# A Faster R-CNN to train from scratch on small images: all batch norms train,
# and RoIs and heads are a quarter or half of MMDetection's.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

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
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=256),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
