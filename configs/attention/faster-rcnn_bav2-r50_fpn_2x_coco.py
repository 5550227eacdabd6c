_base_ = './faster-rcnn_bav1-r50_fpn_2x_coco.py'

model = dict(backbone=dict(attention=dict(version=2)))
