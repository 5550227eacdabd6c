_base_ = [
    'mmpretrain::_base_/models/shufflenet_v2_1x.py',
    '../_base_/datasets/cifar100_bs256.py',
    '../_base_/schedules/cifar_bs256_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(type='ShuffleNetV2_CIFAR'), head=dict(num_classes=100)
)
