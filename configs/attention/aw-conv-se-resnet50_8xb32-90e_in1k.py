_base_ = './aw-conv-resnet50_8xb32-90e_in1k.py'

model = dict(backbone=dict(attention=[dict(type='AWConv2d'), dict(type='SE')]))
