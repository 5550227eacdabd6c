_base_ = [
    '../_base_/models/mask-rcnn_ba2m-r50_fpn.py',
    '../_base_/datasets/voc0712_instance.py',
    '../_base_/schedules/schedule_2x_paper.py',
    '../_base_/default_runtime.py',
]

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=20), mask_head=dict(num_classes=20)
    )
)
