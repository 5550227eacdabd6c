_base_ = './resnext50-32x4d_8xb32-90e_in1k.py'

model = dict(backbone=dict(type='BA2MResNeXt', ba2m_cfg=dict(reduction=16)))
