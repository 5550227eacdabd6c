# The segmentation images of VOC 07+12 trainval and 07 test, in COCO's format:
# tools/dataset_converters/pascal_voc_instances.py makes the annotations.
# VOC_ROOT points elsewhere than to data/VOCdevkit.
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

data_root = '{{$VOC_ROOT:data/VOCdevkit}}'
classes = (
    'aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog '
    'horse motorbike person pottedplant sheep sofa train tvmonitor'
)
metainfo = dict(classes=tuple(classes.split()))
scale = (1000, 600)

_base_.train_pipeline[2].scale = scale
_base_.test_pipeline[1].scale = scale
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_voc0712_trainval.json',
        data_prefix=dict(img=''),
        metainfo=metainfo,
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_voc07_test.json',
        data_prefix=dict(img=''),
        metainfo=metainfo,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    ann_file=f'{data_root}/annotations/instances_voc07_test.json'
)
test_evaluator = val_evaluator
