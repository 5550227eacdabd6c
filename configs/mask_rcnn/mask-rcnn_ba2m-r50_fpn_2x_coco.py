_base_ = [
    '../_base_/models/mask-rcnn_ba2m-r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_2x_paper.py',
    '../_base_/default_runtime.py',
]
