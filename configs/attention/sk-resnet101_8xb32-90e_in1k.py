_base_ = './sk-resnet50_8xb32-90e_in1k.py'

model = dict(backbone=dict(depth=101))
