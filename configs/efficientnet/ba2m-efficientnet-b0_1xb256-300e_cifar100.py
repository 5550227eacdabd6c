# Where the paper puts the modules, and its reduction, are not in its text.
# Here: after each stage that is wider than R, with the R of the other
# lightweight networks.
_base_ = './efficientnet-b0_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='BA2MEfficientNet_CIFAR',
        ba2m_stages=(False, True, True, True, True),
        ba2m_cfg=dict(reduction=20),
    )
)
