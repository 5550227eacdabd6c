_base_ = [
    '../_base_/models/faster-rcnn_ba2m-r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    '../_base_/default_runtime.py',
]

# The paper: lr 0.01, stepped at epochs 16 and 22 of 24. By the linear rule
# that is MMDetection's 0.02 for 16 images a step, at 8 images a step.
optim_wrapper = dict(optimizer=dict(lr=0.01))
auto_scale_lr = dict(base_batch_size=8)
