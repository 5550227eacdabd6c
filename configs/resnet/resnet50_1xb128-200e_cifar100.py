# MMPretrain's own recipe, of its resnet50_8xb16_cifar100: the one to start
# from. The paper names no weight decay; 300e is our reading of it.
_base_ = './resnet50_1xb256-300e_cifar100.py'

train_dataloader = dict(batch_size=128)
train_cfg = dict(max_epochs=200)
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4))
param_scheduler = dict(milestones=[60, 120, 160], gamma=0.2)
auto_scale_lr = dict(base_batch_size=128)
