_base_ = '../resnet/resnet50_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(type='AttentionResNet_CIFAR', attention=dict(type='SAAM'))
)
