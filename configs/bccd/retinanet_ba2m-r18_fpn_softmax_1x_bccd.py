_base_ = './retinanet_ba2m-r18_fpn_1x_bccd.py'

model = dict(
    bbox_head=dict(
        type='SoftmaxRetinaHead',
        loss_cls=dict(_delete_=True, type='CrossEntropyLoss'),
    )
)
