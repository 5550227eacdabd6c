_base_ = [
    '../_base_/models/faster-rcnn_ba2m-r18_fpn_tiny.py',
    '../_base_/datasets/shapes_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=5)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=200)),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)

max_epochs = 7
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=7e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        T_max=max_epochs,
        eta_min=1e-5,
    ),
]
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(
    logger=dict(interval=10), visualization=dict(score_thr=0.5)
)
visualizer = dict(line_width=1)
