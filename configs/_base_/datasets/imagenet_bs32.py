# ImageNet-1K. It may lie elsewhere:
# IMAGENET_ROOT=/data/imagenet python tools/train.py …
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'

data_root = '{{$IMAGENET_ROOT:data/imagenet}}'

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
