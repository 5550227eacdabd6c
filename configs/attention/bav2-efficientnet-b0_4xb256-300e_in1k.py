# Instead of SE, from the convolutions that expand and the depthwise ones: so
# the authors' code for version 1 has it. Blocks that do not expand keep SE.
_base_ = '../resnet/resnet50_4xb256-300e_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmba2m.AttentionBackbone',
        base='EfficientNet',
        arch='b0',
        attention=dict(
            type='BridgeAttention',
            position='se',
            reduction=6,
            stages=(False, True, True, True, True),
        ),
    ),
    head=dict(in_channels=1280),
)
