# Inside all blocks instead of between stages (Fig. 4c, Table VII).
_base_ = './resnet50_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='BA2MResNet_CIFAR',
        ba2m_stages=(False, False, False, False),
        plugins=[
            dict(
                cfg=dict(type='mmba2m.BA2M', reduction=32),
                position='after_conv3',
            )
        ],
    )
)
