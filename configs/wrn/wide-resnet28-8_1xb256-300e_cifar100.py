_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../_base_/datasets/cifar100_bs256.py',
    '../_base_/schedules/cifar_bs256_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='PreResNet_CIFAR',
        depths=(4, 4, 4),
        base_channels=128,
    ),
    head=dict(num_classes=100, in_channels=512),
)
