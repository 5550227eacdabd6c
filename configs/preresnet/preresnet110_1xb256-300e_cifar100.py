# Three times 18 bottlenecks: the network that a widely used CIFAR repository
# calls PreResNet-110 has 164 layers, and 1,726,388 parameters with 100
# classes. With the blocks of two 3×3 convolutions, 110 layers, it has
# 1,736,372; the paper prints 1.73 M.
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
        depths=(18, 18, 18),
        expansion=4,
    ),
    head=dict(num_classes=100, in_channels=256),
)
