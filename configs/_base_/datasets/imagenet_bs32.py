# ImageNet-1K. It may lie elsewhere:
# IMAGENET_ROOT=/data/imagenet python tools/train.py …
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'

data_root = '{{$IMAGENET_ROOT:data/imagenet}}'

# what MMPretrain's own train.py sets: workers that outlive the epoch, and
# hand over one tensor per batch instead of one per image
loader = dict(
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)
train_dataloader = loader
val_dataloader = loader
test_dataloader = val_dataloader
