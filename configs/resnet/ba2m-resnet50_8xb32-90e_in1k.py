_base_ = './resnet50_8xb32-90e_in1k.py'

model = dict(backbone=dict(type='BA2MResNet', ba2m_cfg=dict(reduction=16)))
