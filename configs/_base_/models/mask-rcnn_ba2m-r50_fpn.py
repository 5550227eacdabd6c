# Group norm inside BA²M: see faster-rcnn_ba2m-r50_fpn.py.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(
        type='BA2MResNet',
        ba2m_cfg=dict(reduction=16, norm_cfg=dict(type='GN', num_groups=1)),
    )
)
