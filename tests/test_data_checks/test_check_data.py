import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmba2m.data_checks import check_data

ROOT = Path(__file__).parents[2]
LOADERS = ('train_dataloader', 'val_dataloader')


def coco_file(cfg):
    dataset = cfg.train_dataloader.dataset.dataset
    return f'{dataset.data_root}/{dataset.ann_file}'


def voc_dataset(cfg):
    return cfg.train_dataloader.dataset.datasets[0]


def test_whole_data_pass(coco, voc):
    check_data(coco, LOADERS)
    check_data(voc, LOADERS)


def test_other_ranks_leave_it_to_the_first(coco, monkeypatch):
    coco.val_dataloader.dataset.data_root = '/nowhere'
    monkeypatch.setenv('RANK', '1')
    check_data(coco, LOADERS)


NO = FileNotFoundError
MISSPELT = ('circle', 'ring', 'sqare', 'star', 'triangle')


@pytest.mark.parametrize(
    'change, error, message',
    [
        (dict(data_root='data/nowhere'), NO, "data_root 'data/nowhere'"),
        (dict(data_prefix=dict(img='images/')), NO, 'img folder .*images'),
        (dict(ann_file='a/other.json'), NO, r'a/other\.json'),
        (
            dict(metainfo=dict(classes=MISSPELT)),
            ValueError,
            "'sqare'.*did you mean 'square'",
        ),
        (dict(metainfo=None), ValueError, "'person' is not in.*80 of the 80"),
        (
            dict(metainfo=dict(classes='circle')),
            ValueError,
            "classes='circle' is a string",
        ),
    ],
)
def test_what_a_config_names_is_there(coco, change, error, message):
    coco.val_dataloader.dataset.update(change)
    with pytest.raises(error, match=f'val_dataloader: .*{message}'):
        check_data(coco, LOADERS)


def test_evaluator_of_another_file_is_refused(coco):
    coco.val_evaluator.ann_file = coco_file(coco)
    with pytest.raises(ValueError, match=r'evaluator.*train2017'):
        check_data(coco, LOADERS)


def test_half_a_json_is_named(coco):
    file = coco_file(coco)
    with open(file, 'r+') as stream:
        stream.truncate(len(stream.read()) // 2)
    with pytest.raises(
        ValueError, match=r'train_dataloader: .*train2017\.json.* cut off'
    ):
        check_data(coco, LOADERS)


def test_misspelt_voc_class_is_named(voc):
    voc_dataset(voc).metainfo.classes = ('circle', 'rings')
    with pytest.raises(ValueError, match=r"'rings'.*did you mean 'ring'"):
        check_data(voc, LOADERS)


def test_half_an_xml_is_named(voc, shapes):
    file = sorted((shapes / 'VOCdevkit/VOC2007/Annotations').glob('*'))[0]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=f'{file.name}.* cut off'):
        check_data(voc, LOADERS)


def test_listed_image_without_xml_is_named(voc, shapes):
    sorted((shapes / 'VOCdevkit/VOC2007/Annotations').glob('*'))[0].unlink()
    with pytest.raises(FileNotFoundError, match=r'\.xml.* listed in'):
        check_data(voc, LOADERS)


def test_folders_of_classification_are_checked(shapes):
    cfg = Config.fromfile(ROOT / 'configs/demo/ba2m-resnet18_shapes.py')
    cfg.train_dataloader.dataset.data_root = str(shapes / 'imagefolder/train')
    cfg.val_dataloader.dataset.data_root = str(shapes / 'imagefolder/test')
    with pytest.raises(FileNotFoundError, match='imagefolder/test'):
        check_data(cfg, LOADERS)


def test_prefix_may_be_a_string(shapes):
    cfg = Config.fromfile(ROOT / 'configs/demo/ba2m-resnet18_shapes.py')
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(shapes / 'imagefolder')
    dataset.data_prefix = 'train'
    check_data(cfg, ('train_dataloader',))
    dataset.data_prefix = 'trian'
    with pytest.raises(FileNotFoundError, match='imagefolder/trian'):
        check_data(cfg, ('train_dataloader',))


def test_a_test_set_without_annotations_needs_a_server(coco):
    ann_file = coco_file(coco)
    content = json.loads(Path(ann_file).read_text())
    del content['annotations']
    Path(ann_file).write_text(json.dumps(content))
    coco.test_dataloader = dict(dataset=coco.train_dataloader.dataset.dataset)
    coco.test_evaluator = dict(type='CocoMetric', format_only=True)
    check_data(coco, ('test_dataloader',))
    coco.test_evaluator.format_only = False
    with pytest.raises(ValueError, match="has no 'annotations'"):
        check_data(coco, ('test_dataloader',))
