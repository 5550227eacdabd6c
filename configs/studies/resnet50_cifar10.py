# ResNet-50 in full width on CIFAR-10, by the recipe that MMPretrain has for
# CIFAR-100: for a GPU where CIFAR-100 is not at hand.
_base_ = './resnet18_small_cifar10.py'

model = dict(
    backbone=dict(
        depth=50, stem_channels=64, base_channels=64, strides=(1, 2, 2, 2)
    ),
    head=dict(in_channels=2048),
)
train_dataloader = dict(persistent_workers=True, pin_memory=True)
train_cfg = dict(max_epochs=200)
optim_wrapper = dict(optimizer=dict(nesterov=False))
param_scheduler = dict(
    _delete_=True, type='MultiStepLR', milestones=[60, 120, 160], gamma=0.2
)
