_base_ = './resnet18_small_cifar10.py'

model = dict(
    backbone=dict(type='BA2MResNet_CIFAR', ba2m_cfg=dict(reduction=4))
)
