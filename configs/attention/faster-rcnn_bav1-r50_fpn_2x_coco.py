# Stage 1 is frozen, so nothing would learn there. Batch norms are frozen, too;
# this one goes on.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        type='AttentionResNet',
        attention=dict(
            type='BridgeAttention',
            version=1,
            norm_cfg=dict(type='mmba2m.RunningBN'),
            stages=(False, True, True, True),
        ),
    )
)
