_base_ = [
    '../_base_/models/retinanet_ba2m-r18_fpn_small.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/schedule_1x_bccd.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=3))
default_hooks = dict(
    logger=dict(interval=10), visualization=dict(score_thr=0.5)
)
