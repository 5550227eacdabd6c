"""What a config asks of its data, and what other ranks leave to the first."""

import re
from pathlib import Path

import pytest
from findings import LOADERS, change_file, first, leaves, reverse, say
from mmengine.config import Config

from mmba2m.data_checks import check_data
from mmba2m.datasets import SHAPES_CLASSES

CONFIG = Path(__file__).parents[2] / 'configs/demo/ba2m-resnet18_shapes.py'


def test_whole_data_pass(coco, voc):
    assert say(coco) == say(voc) == ''
    check_data(coco, LOADERS)


def test_an_error_ends_it_and_a_remark_warns(coco, monkeypatch):
    change_file(leaves(coco)[0], first('annotations', image_id=7))
    coco.val_dataloader.dataset.data_root = '/nowhere'
    with (
        pytest.warns(UserWarning, match='train_dataloader: .*does not list'),
        pytest.raises(FileNotFoundError, match='val_dataloader: data_root'),
    ):
        check_data(coco, LOADERS)
    monkeypatch.setenv('RANK', '1')
    check_data(coco, LOADERS)  # left to the first rank
    monkeypatch.undo()
    coco.data_checks = False
    check_data(coco, LOADERS)


MISSPELT = ('circle', 'ring', 'sqare', 'star', 'triangle')


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(data_root='data/nowhere'), "N data_root 'data/nowhere'"),
        (dict(data_prefix=dict(img='images/')), 'N img folder .*images'),
        (dict(ann_file='a/other.json'), r'N .*a/other\.json'),
        (dict(metainfo=dict(classes=MISSPELT)),
         "E .*'sqare'.*did you mean 'square'"),
        (dict(metainfo=None), "E .*'person' is not in.*80 of the 80"),
        (dict(metainfo=dict(classes='circle')),
         "E classes='circle' is a string"),
        (dict(metainfo=dict(classes=SHAPES_CLASSES[:3])),
         'E its classes are circle, ring, square, but those of the'),
    ],
)  # fmt: skip
def test_what_a_config_names_is_there(coco, change, message):
    coco.val_dataloader.dataset.update(change)
    assert re.match(f'{message[:2]}val: {message[2:]}', say(coco))


def test_evaluator_of_another_file_is_refused(coco):
    train = leaves(coco)[0]
    coco.val_evaluator.ann_file = f'{train.data_root}/{train.ann_file}'
    assert re.match('E val: .*evaluator.*train2017', say(coco))


def test_folders_of_classification_are_checked(shapes):
    cfg = Config.fromfile(CONFIG)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    train.data_root = str(shapes / 'imagefolder/train')
    val.data_root = str(shapes / 'imagefolder/test')
    assert re.search('N val: .*imagefolder/test', say(cfg))
    train.data_root = str(shapes / 'imagefolder')
    train.data_prefix = 'train'  # a prefix may be a string
    assert not re.search('^[EN]', say(cfg, LOADERS[:1]))
    train.data_prefix = 'trian'
    assert re.match('N train: .*imagefolder/trian', say(cfg, LOADERS[:1]))


def test_a_test_set_without_annotations_needs_a_server(coco):
    train = leaves(coco)[0]
    change_file(train, lambda content: content.pop('annotations'))
    coco.test_dataloader = dict(dataset=train)
    coco.test_evaluator = dict(type='CocoMetric', format_only=True)
    assert say(coco, ['test_dataloader']) == ''
    coco.test_evaluator.format_only = False
    assert "has no 'annotations'" in say(coco, ['test_dataloader'])


def test_several_sets_are_not_scored_as_one(coco):
    val = coco.val_dataloader.dataset
    coco.val_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[val, val]
    )
    metric = coco.val_evaluator
    assert re.fullmatch('E val: it has 2 data sets.*MultiDatas.*', say(coco))
    coco.val_evaluator = dict(
        type='MultiDatasetsEvaluator',
        metrics=[metric, metric],
        dataset_prefixes=['a', 'b'],
    )
    assert say(coco) == ''
    coco.val_evaluator = dict(type='VOCMetric')
    assert say(coco) == 'W val: its 2 data sets are scored as one'
    coco.val_dataloader.dataset = [val, val]
    assert re.fullmatch('E val: its dataset is a list.*Concat.*', say(coco))


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(model=dict(bbox_head=dict(num_classes=80))),
         r'E train: model.bbox_head.num_classes is 80, but the data have 5 .*'
         r'\nE val: .*'),
        (dict(model=dict(roi_head=dict(mask_head=[dict(num_classes=9)]))),
         r'E train: model.roi_head.mask_head.0.num_classes is 9.*\nE val.*'),
        (dict(model=dict(rpn_head=dict(num_classes=1))), ''),
        (dict(train_dataloader=dict(drop_last=True, batch_size=13)),
         'E train: drop_last leaves no batch: batch_size is 13.* 12 images'),
        (dict(train_dataloader=dict(drop_last=True, batch_size=12)), ''),
        (dict(train_dataloader=dict(batch_size=13, batch_sampler=dict(
            type='AspectRatioBatchSampler', drop_last=True))),
         'E train: drop_last leaves no batch: .*'),
        (dict(train_dataloader=dict(drop_last=True, batch_size=13,
                                    sampler=dict(type='InfiniteSampler'))),
         ''),
        (dict(train_cfg=dict(max_epochs=24), param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=96),
            dict(type='MultiStepLR', by_epoch=True, milestones=[8, 11])]),
         'W train: the warm-up lasts 96 iterations, but the 12 images make 12 '
         'in an epoch, and after 96 .* set param_scheduler.0.end to 9'),
        (dict(train_cfg=dict(max_epochs=24), param_scheduler=dict(
            type='LinearLR', start_factor=0.1, by_epoch=False, end=96)), ''),
    ],
)  # fmt: skip
def test_config(coco, settings, message):
    coco.train_dataloader.dataset.times = 2
    coco.train_dataloader.update(settings.get('train_dataloader', {}))
    coco.update({k: v for k, v in settings.items() if 'loader' not in k})
    assert re.fullmatch(message, say(coco))


def test_what_lies_elsewhere_is_left_to_its_backend(coco):
    leaf = coco.train_dataloader.dataset.dataset
    for root in ('s3://parts', '/nowhere'):  # maybe without its client
        leaf.update(data_root=root, backend_args=dict(backend='petrel'))
        assert say(coco, LOADERS[:1]) == ''
    del leaf['backend_args']
    assert re.match("N train: data_root '/nowhere' is no fold", say(coco))


def test_images_elsewhere_leave_the_annotations_to_be_checked(coco):
    leaf = coco.val_dataloader.dataset
    leaf.data_prefix.img = 'in_a_database'
    load = dict(type='LoadImageFromFile', backend_args=dict(backend='lmdb'))
    leaf.pipeline = [load]
    assert say(coco) == ''
    change_file(leaf, reverse)
    assert re.match('E val: .*another order', say(coco))


def test_types_may_be_classes(coco):
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation import CocoMetric

    coco.val_dataloader.dataset.type = CocoDataset
    coco.val_evaluator.type = CocoMetric
    change_file(coco.val_dataloader.dataset, first('annotations', id=0))
    assert re.match('W val: .*id 0', say(coco))
