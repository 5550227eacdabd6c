_base_ = '../resnet/ba2m-resnet50_1xb256-300e_cifar100.py'

model = dict(backbone=dict(attention=dict(type='SE')))
