_base_ = '../wrn/wide-resnet28-8_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='mmba2m.AttentionBackbone',
        base='PreResNet_CIFAR',
        attention=dict(type='GE', map_size=(32, 16, 8)),
    )
)
