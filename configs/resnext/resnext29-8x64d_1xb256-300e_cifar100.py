_base_ = [
    'mmpretrain::_base_/models/resnext50_32x4d.py',
    '../_base_/datasets/cifar100_bs256.py',
    '../_base_/schedules/cifar_bs256_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        type='ResNeXt_CIFAR',
        depth=29,
        groups=8,
        width_per_group=64,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    head=dict(num_classes=100, in_channels=1024),
)
