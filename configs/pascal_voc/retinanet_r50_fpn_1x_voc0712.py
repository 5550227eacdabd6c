_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/schedule_1x_voc0712.py',
    '../_base_/default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=20))

# For the softmax configs over this one: where all boxes of a batch are small
# or difficult, no anchor is positive, and the loss is in the hundreds.
optim_wrapper = dict(clip_grad=dict(max_norm=35))
