# From a plain ImageNet ResNet-50, whose batch norms stay frozen. BA²M trains
# all the same, with norms that need no batch (docs/results.md).
_base_ = './faster-rcnn_r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        type='BA2MResNet',
        ba2m_cfg=dict(reduction=16),
    )
)
