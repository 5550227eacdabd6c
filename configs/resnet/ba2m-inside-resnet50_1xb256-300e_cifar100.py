# Inside all blocks instead of between stages (Fig. 4c, Table VII).
_base_ = './resnet50_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='AttentionResNet_CIFAR',
        attention=dict(type='BA2M', reduction=32, position='after_conv3'),
    )
)
