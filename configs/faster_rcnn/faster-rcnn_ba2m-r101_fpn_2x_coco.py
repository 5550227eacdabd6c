_base_ = './faster-rcnn_ba2m-r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')
    )
)
