# Stage 1 is frozen, so nothing would learn there. Batch norms are frozen, too:
# a new one would keep its initial statistics.
_base_ = '../faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        type='AttentionResNet',
        attention=dict(
            type='BridgeAttention',
            version=1,
            norm_cfg=dict(type='GN', num_groups=1),
            stages=(False, True, True, True),
        ),
    )
)
