_base_ = [
    '../_base_/models/retinanet_ba2m-r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_2x_paper.py',
    '../_base_/default_runtime.py',
]

# MMDetection's rate for RetinaNet, half of that for Faster R-CNN: lr 0.01 is
# for 16 images. The paper has no RetinaNet on COCO.
auto_scale_lr = dict(base_batch_size=16)
