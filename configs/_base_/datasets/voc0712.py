# Pascal VOC 07+12 trainval, 07 test. It may lie elsewhere:
# VOC_ROOT=/data/VOCdevkit python tools/train.py …
_base_ = 'mmdet::_base_/datasets/voc0712.py'

data_root = '{{$VOC_ROOT:data/VOCdevkit}}'

# lists replace those of the base, so both years are written out here
_base_.train_dataloader.dataset.dataset.datasets[0].data_root = data_root
_base_.train_dataloader.dataset.dataset.datasets[1].data_root = data_root

val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

# mAP by VOC 2007's rule, and Recall beside it
val_evaluator = dict(
    _delete_=True, type='mmba2m.VOCMetric', eval_mode='11points'
)
test_evaluator = val_evaluator
