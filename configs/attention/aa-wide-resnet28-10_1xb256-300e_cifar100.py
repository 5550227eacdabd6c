_base_ = '../wrn/wide-resnet28-10_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='mmba2m.AttentionBackbone',
        base='PreResNet_CIFAR',
        attention=dict(
            type='AAConv2d', position='conv1', map_size=(32, 16, 8)
        ),
    )
)
