_base_ = './faster-rcnn_aw-conv-r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        attention=[
            dict(type=name, stages=(False, True, True, True))
            for name in ('AWConv2d', 'SE')
        ]
    )
)
