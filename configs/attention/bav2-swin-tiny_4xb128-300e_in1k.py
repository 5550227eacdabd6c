# From the attention and both linear layers of the MLP: a reading.
_base_ = [
    'mmpretrain::_base_/models/swin_transformer/tiny_224.py',
    '../_base_/datasets/imagenet_bs256_300e.py',
    '../_base_/schedules/imagenet_bs1024_300e.py',
    '../_base_/default_runtime_cls.py',
]

model = dict(
    backbone=dict(
        type='mmba2m.AttentionBackbone',
        base='SwinTransformer',
        attention=dict(type='BridgeAttention'),
    )
)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=512)
