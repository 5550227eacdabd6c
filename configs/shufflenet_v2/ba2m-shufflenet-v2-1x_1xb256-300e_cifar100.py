# Where the paper puts the modules, and its reduction, are not in its text.
# Here: after each stage, with the R of the other lightweight networks. Its
# 1.92 (× 2²⁰) parameters are not reached.
_base_ = './shufflenet-v2-1x_1xb256-300e_cifar100.py'

model = dict(
    backbone=dict(type='BA2MShuffleNetV2_CIFAR', ba2m_cfg=dict(reduction=20))
)
