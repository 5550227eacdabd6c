# From a plain ImageNet ResNet-50, whose batch norms stay frozen. BA²M's own
# would be frozen at their initial statistics and its SARs saturate
# (docs/results.md), so it takes a norm that needs no batch.
_base_ = './faster-rcnn_r50_fpn_2x_coco.py'

model = dict(
    backbone=dict(
        type='BA2MResNet',
        ba2m_cfg=dict(reduction=16, norm_cfg=dict(type='GN', num_groups=1)),
    )
)
