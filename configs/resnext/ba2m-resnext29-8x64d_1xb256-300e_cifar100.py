_base_ = './resnext29-8x64d_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(type='BA2MResNeXt_CIFAR', ba2m_cfg=dict(reduction=8))
)
