# The last stage alone: so the printed 1.86 (× 2²⁰) parameters come out.
# After all three stages they are 1.93.
_base_ = './preresnet110_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(
        type='BA2MPreResNet_CIFAR',
        ba2m_stages=(False, False, True),
        ba2m_cfg=dict(reduction=4),
    )
)
