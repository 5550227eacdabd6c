_base_ = [
    'mmpretrain::_base_/models/resnext101_32x4d.py',
    '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_bs256_90e.py',
    '../_base_/default_runtime_cls.py',
]
