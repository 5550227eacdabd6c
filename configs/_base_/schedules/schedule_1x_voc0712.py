# MMDetection's schedule for VOC 07+12, as the paper gives none. The set is
# repeated 3 times: 4 epochs of the loop are 12 of the data. The rate is for 16
# images a step: 8 GPUs with 2 images each.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

train_cfg = dict(max_epochs=4)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[3], gamma=0.1)
]
optim_wrapper = dict(optimizer=dict(lr=0.01))
