_base_ = '../resnet/resnet50_8xb32-90e_in1k.py'

model = dict(
    backbone=dict(
        type='AttentionResNet',
        attention=dict(
            type='AAConv2d',
            stages=(False, True, True, True),
            map_size=(28, 14, 7),
        ),
    )
)
