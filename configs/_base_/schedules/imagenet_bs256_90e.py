# The paper takes BAM's settings: SGD 0.9, weight decay 1e-4, learning rate
# 0.1 for a batch of 256 (8 cards), divided by 10 at epochs 30 and 60 of 90.
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs256.py'

train_cfg = dict(max_epochs=90)
param_scheduler = dict(milestones=[30, 60])
