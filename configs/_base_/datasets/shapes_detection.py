# Shapes over textures, in COCO's format, made by
# tools/dataset_converters/make_shapes.py. SHAPES_ROOT points elsewhere.
_base_ = './coco_detection.py'

data_root = '{{$SHAPES_ROOT:data/shapes}}/coco'
metainfo = dict(
    classes=('circle', 'ring', 'square', 'star', 'triangle'),
    palette=[
        (220, 20, 60),
        (0, 82, 204),
        (255, 165, 0),
        (0, 150, 80),
        (130, 50, 190),
    ],
)
scale = (128, 128)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        filter_cfg=dict(min_size=16),
        pipeline=train_pipeline,
    ),
)
_base_.test_pipeline[1].scale = scale
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    ann_file=f'{data_root}/annotations/instances_val2017.json'
)
test_evaluator = val_evaluator
