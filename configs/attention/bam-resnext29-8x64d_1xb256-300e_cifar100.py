_base_ = '../resnext/resnext29-8x64d_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='AttentionResNeXt_CIFAR',
        attention=dict(type='BAM', stages=(True, True, False)),
    )
)
