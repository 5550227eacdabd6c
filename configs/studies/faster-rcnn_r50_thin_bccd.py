# The usual start of a detector, for many runs: a ResNet-50 of half the width
# with weights of ImageNet, whose first stage and norms are frozen.
_base_ = './faster-rcnn_ba2m-r18_small_bccd.py'

model = dict(
    data_preprocessor=dict(
        mean=[104, 117, 123], std=[1, 1, 1], bgr_to_rgb=False
    ),
    backbone=dict(
        _delete_=True,
        type='AttentionResNet',
        depth=50,
        stem_channels=64,
        base_channels=32,
        style='caffe',
        frozen_stages=1,
        norm_eval=True,
        # the ResNet-50 thin of Yahoo's open_nsfw, with MMDetection's names;
        # RESNET50_THIN points elsewhere than to data/
        init_cfg=dict(
            type='Pretrained',
            checkpoint='{{$RESNET50_THIN:data/resnet50_thin.pth}}',
        ),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
train_cfg = dict(max_epochs=4, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, milestones=[3], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
