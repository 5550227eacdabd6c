# CIFAR-100: random crops of the images padded by 4 pixels, and flips. It may
# lie elsewhere: CIFAR_ROOT=/data/cifar100 python tools/train.py …
_base_ = 'mmpretrain::_base_/datasets/cifar100_bs16.py'

data_root = '{{$CIFAR_ROOT:data/cifar100}}'

train_dataloader = dict(batch_size=256, dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=256, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
