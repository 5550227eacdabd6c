_base_ = './resnet18_8xb32-90e_in1k.py'

model = dict(backbone=dict(type='BA2MResNet', ba2m_cfg=dict(reduction=4)))
