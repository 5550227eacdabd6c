# Not the paper's variant, whose 2.80 (× 2²⁰) parameters are those of a public
# CIFAR network: 3×3 kernels throughout, no convolution to 1280 channels.
_base_ = [
    'mmpretrain::_base_/models/efficientnet_b0.py',
    '../_base_/datasets/cifar100_bs256.py',
    '../_base_/schedules/cifar_bs256_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(type='EfficientNet_CIFAR'), head=dict(num_classes=100)
)
