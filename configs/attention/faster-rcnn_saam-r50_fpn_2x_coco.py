# Stage 1 is frozen, so nothing would learn there.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        type='AttentionResNet',
        attention=dict(type='SAAM', stages=(False, True, True, True)),
    )
)
