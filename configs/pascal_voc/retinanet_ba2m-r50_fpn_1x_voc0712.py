# The norm: see ../faster_rcnn/faster-rcnn_ba2m-r50_fpn_2x_coco.py.
_base_ = './retinanet_r50_fpn_1x_voc0712.py'

model = dict(
    backbone=dict(
        type='BA2MResNet',
        ba2m_cfg=dict(reduction=16),
    )
)
