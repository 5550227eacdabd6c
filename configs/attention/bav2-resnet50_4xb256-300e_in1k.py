_base_ = '../resnet/resnet50_4xb256-300e_in1k.py'

model = dict(
    backbone=dict(
        type='AttentionResNet', attention=dict(type='BridgeAttention')
    )
)
