# A batch of 256 on one card, as in the paper. Its text refers to BAM for the
# rest and names neither steps nor weight decay: here they are DenseNet's for
# 300 epochs of CIFAR, learning rate 0.1 divided by 10 after 1/2 and 3/4.
_base_ = 'mmpretrain::_base_/schedules/cifar10_bs128.py'

train_cfg = dict(max_epochs=300)
param_scheduler = dict(milestones=[150, 225])
auto_scale_lr = dict(base_batch_size=256)
