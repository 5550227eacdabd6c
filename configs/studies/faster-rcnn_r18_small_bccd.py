_base_ = './faster-rcnn_ba2m-r18_small_bccd.py'

model = dict(backbone=dict(ba2m_stages=(False, False, False, False)))
