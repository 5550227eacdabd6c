# CIFAR-100: random crops of the images padded by 4 pixels, and flips. It may
# lie elsewhere: CIFAR_ROOT=/data/cifar100 python tools/train.py …
_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'

data_root = '{{$CIFAR_ROOT:data/cifar100}}'

# what MMPretrain's own train.py sets: workers that outlive the epoch, and
# hand over one tensor per batch instead of one per image
loader = dict(
    batch_size=256,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_root=data_root),
)
train_dataloader = loader
val_dataloader = loader
test_dataloader = val_dataloader
