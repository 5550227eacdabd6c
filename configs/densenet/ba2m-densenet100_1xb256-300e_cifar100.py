# Where the paper puts the modules, and its reduction, are not in its text.
# Between the dense blocks with R = 20 is one choice that gives its count.
_base_ = './densenet100_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='BA2MDenseNet_CIFAR',
        ba2m_stages=(True, True, False),
        ba2m_cfg=dict(reduction=20),
    )
)
