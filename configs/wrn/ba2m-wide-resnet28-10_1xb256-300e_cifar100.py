_base_ = './wide-resnet28-10_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(type='BA2MPreResNet_CIFAR', ba2m_cfg=dict(reduction=4))
)
