# A long tail of CIFAR-10, imbalance 100 (12,406 images). The list is made by
#     python tools/dataset_converters/long_tail.py \
#         data/cifar10/train data/cifar10/long_tail.txt
# or lies where CIFAR10_LONG_TAIL says.
_base_ = './resnet18_small_cifar10.py'

train_dataloader = dict(
    dataset=dict(
        data_root={{_base_.data_root}},
        data_prefix='train',
        ann_file='{{$CIFAR10_LONG_TAIL:long_tail.txt}}',
    )
)
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    # training images: 5000 to 1796, 1077 to 232, 139 to 50 a class
    dict(
        type='mmba2m.ClassGroups',
        groups=dict(many=[0, 1, 2], medium=[3, 4, 5, 6], few=[7, 8, 9]),
    ),
]
test_evaluator = val_evaluator

# 96 iterations an epoch, in place of 390
train_cfg = dict(max_epochs=24, val_interval=8)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(T_max=23, end=24)
