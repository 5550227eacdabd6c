# The detector of demo/: small enough to lie beside the code.
_base_ = [
    '../_base_/models/faster-rcnn_ba2m-r18_fpn_tiny.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/schedule_1x_bccd.py',
    '../_base_/default_runtime.py',
]

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=3)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=200)),
)

# cells have no up and down
train_pipeline = _base_.train_pipeline
train_pipeline[3].update(
    prob=[0.25] * 3, direction=['horizontal', 'vertical', 'diagonal']
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# COCO's AP, which takes the boxes from the instances
test_pipeline = _base_.test_pipeline
test_pipeline[-1].update(meta_keys=(*_base_.meta_keys, 'instances'))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=8)
optim_wrapper = dict(optimizer=dict(lr=7e-4))
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
default_hooks = dict(
    logger=dict(interval=10),
    visualization=dict(score_thr=0.5),
    checkpoint=dict(save_best=None),
)
