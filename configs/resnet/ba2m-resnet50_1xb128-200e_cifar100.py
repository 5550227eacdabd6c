_base_ = './resnet50_1xb128-200e_cifar100.py'

model = dict(
    backbone=dict(type='BA2MResNet_CIFAR', ba2m_cfg=dict(reduction=32))
)
