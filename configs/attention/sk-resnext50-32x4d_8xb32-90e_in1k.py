# SKNet-50: in SK's paper the second convolution is dilated, and the weights
# come from 32 channels at least.
_base_ = '../resnext/resnext50-32x4d_8xb32-90e_in1k.py'

model = dict(
    backbone=dict(
        type='AttentionResNeXt',
        attention=dict(type='SK', dilation=2, min_channels=32),
    )
)
