# ImageNet-1K as BA-Net's authors augment it, and Swin's: RandAugment 9 with a
# deviation of 0.5, random erasing 0.25, bicubic.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

# the rest as in imagenet_bs32.py
data_root = '{{$IMAGENET_ROOT:data/imagenet}}'
loader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)
train_dataloader = dict(drop_last=True, **loader)
val_dataloader = loader
test_dataloader = val_dataloader
