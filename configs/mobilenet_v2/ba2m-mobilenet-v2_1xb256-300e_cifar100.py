# Where the paper puts the modules, and its reduction, are not in its text.
# After the last stage of each resolution, with R = 20, is one choice that
# gives its count.
_base_ = './mobilenet-v2_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='BA2MMobileNetV2_CIFAR',
        ba2m_stages=(False, True, True, False, True, False, True),
        ba2m_cfg=dict(reduction=20),
    )
)
