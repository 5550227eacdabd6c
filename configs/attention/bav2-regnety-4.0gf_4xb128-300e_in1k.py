# RegNetY is RegNetX with SE behind the 3×3 convolutions. Where that is, and
# from the two convolutions up to there: a reading, as in EfficientNet.
_base_ = '../resnet/resnet50_4xb256-300e_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmba2m.AttentionBackbone',
        base='RegNet',
        # timm's regnety_040
        arch=dict(w0=96, wa=31.41, wm=2.24, group_w=64, depth=22, bot_mul=1.0),
        attention=dict(type='BridgeAttention', position='after_conv2'),
    ),
    head=dict(in_channels=1088),
)
train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=512)
