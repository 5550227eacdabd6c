_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_bs256_90e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(backbone=dict(base_channels=128), head=dict(in_channels=1024))
