_base_ = '../preresnet/preresnet110_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='mmba2m.AttentionBackbone',
        base='PreResNet_CIFAR',
        attention=dict(type='SE'),
    )
)
