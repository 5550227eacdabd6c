_base_ = '../resnet/resnet50_8xb32-90e_in1k.py'

model = dict(
    backbone=dict(
        type='AttentionResNet',
        attention=dict(type='GE', map_size=(56, 28, 14, 7)),
    )
)
