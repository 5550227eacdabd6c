_base_ = './wide-resnet28-8_1xb256-300e_cifar100.py'

model = dict(backbone=dict(base_channels=160), head=dict(in_channels=640))
