_base_ = './resnet101_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(type='BA2MResNet_CIFAR', ba2m_cfg=dict(reduction=32))
)
