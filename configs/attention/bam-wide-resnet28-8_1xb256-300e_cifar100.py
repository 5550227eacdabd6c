_base_ = '../wrn/wide-resnet28-8_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='mmba2m.AttentionBackbone',
        base='PreResNet_CIFAR',
        attention=dict(type='BAM', stages=(True, True, False)),
    )
)
