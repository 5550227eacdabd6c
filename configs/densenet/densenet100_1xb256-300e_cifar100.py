# DenseNet-BC-100 with growth rate 12.
_base_ = [
    'mmpretrain::_base_/models/densenet/densenet121.py',
    '../_base_/datasets/cifar100_bs256.py',
    '../_base_/schedules/cifar_bs256_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        type='DenseNet_CIFAR',
        arch=dict(
            _delete_=True,
            growth_rate=12,
            depths=[16, 16, 16],
            init_channels=24,
        ),
    ),
    head=dict(num_classes=100, in_channels=342),
)
