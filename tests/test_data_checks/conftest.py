import pytest
from mmengine.config import ConfigDict
from voc_files import write_voc

from mmba2m.datasets import SHAPES_CLASSES, make_shapes


@pytest.fixture
def shapes(tmp_path):
    folder = tmp_path / 'shapes'
    return write_voc(make_shapes(folder, num_train=6, num_val=3, size=64))


@pytest.fixture
def coco(shapes):
    def dataset(split):
        return dict(
            type='CocoDataset',
            data_root=str(shapes / 'coco'),
            ann_file=f'annotations/instances_{split}2017.json',
            data_prefix=dict(img=f'{split}2017/'),
            metainfo=dict(classes=SHAPES_CLASSES),
        )

    ann_file = shapes / 'coco/annotations/instances_val2017.json'
    return ConfigDict(
        default_scope='mmdet',
        train_dataloader=dict(
            dataset=dict(type='RepeatDataset', dataset=dataset('train'))
        ),
        val_dataloader=dict(dataset=dataset('val')),
        val_evaluator=dict(type='CocoMetric', ann_file=str(ann_file)),
    )


@pytest.fixture
def voc(shapes):
    dataset = dict(
        type='XMLDataset',
        data_root=str(shapes / 'VOCdevkit'),
        ann_file='VOC2007/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        metainfo=dict(classes=SHAPES_CLASSES),
    )
    return ConfigDict(
        default_scope='mmdet',
        train_dataloader=dict(
            dataset=dict(type='ConcatDataset', datasets=[dataset])
        ),
    )
