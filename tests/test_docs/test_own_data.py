"""docs/own_data.md: its configs, on data as the page describes them."""

import json
import shutil
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch
from code_blocks import ROOT, SHELL, read_blocks, run_shell
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tool_runs import run_tool
from voc_files import write_voc

from mmba2m.data_checks import check_data
from mmba2m.datasets import make_shapes

#: the shapes' classes as those of the page
NAMES = dict(
    circle='bolt', ring='nut', square='washer', star='bolt', triangle='nut'
)
SPLITS = ('train', 'val', 'test')
SMALL = (
    'train_cfg.max_epochs=1',
    'default_hooks.logger.interval=1',
    *(f'{split}_dataloader.num_workers=0' for split in SPLITS),
    *(f'{split}_dataloader.persistent_workers=False' for split in SPLITS),
    'train_dataloader.dataset.pipeline.2.scale=(128,128)',
    'val_dataloader.dataset.pipeline.1.scale=(128,128)',
    'test_dataloader.dataset.pipeline.1.scale=(128,128)',
    'model.backbone.init_cfg=None',
    'model.backbone.base_channels=16',
    'model.backbone.stem_channels=16',
    'model.neck.in_channels=[64,128,256,512]',
    'model.test_cfg.rcnn.score_thr=0.001',
)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The blocks that a test runs, in a checkout with the page's config."""
    configs = tmp_path / 'configs'
    configs.mkdir()
    for path in (ROOT / 'configs').iterdir():
        (configs / path.name).symlink_to(path)
    (configs / 'parts').mkdir()
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    monkeypatch.chdir(tmp_path)

    def page(test, config):
        mark = f'tests/test_docs/test_own_data.py::{test}'
        blocks = [
            block
            for block in read_blocks('docs/own_data.md')
            if block.reason == mark
        ]
        (code,) = (b.text for b in blocks if b.language == 'python')
        (configs / 'parts' / config).write_text(code, encoding='utf-8')
        return [block for block in blocks if block.language in SHELL]

    return page


def make_coco(folder, shapes):
    root = make_shapes(shapes, 6, 2, formats=['coco']) / 'coco'
    ids = dict(bolt=7, nut=8, washer=9)
    (folder / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        shutil.copytree(root / f'{split}2017', folder / split)
        name = f'annotations/instances_{split}2017.json'
        content = json.loads((root / name).read_text())
        new = {
            category['id']: ids[NAMES[category['name']]]
            for category in content['categories']
        }
        for box in content['annotations']:
            box['category_id'] = new[box['category_id']]
        content['categories'] = [
            dict(id=value, name=name) for name, value in ids.items()
        ]
        path = folder / f'annotations/{split}.json'
        path.write_text(json.dumps(content))


@pytest.mark.slow
def test_coco_format(page, tmp_path):
    pytest.importorskip('mmdet')
    make_coco(tmp_path / 'data/parts', tmp_path / 'shapes')
    name = 'faster-rcnn_ba2m-r50_fpn_parts'
    blocks = page('test_coco_format', f'{name}.py')
    train, test = (words for _, words in run_shell(blocks, tmp_path))
    checkpoint = f'work_dirs/{name}/epoch_24.pth'
    assert checkpoint in test
    test[test.index(checkpoint)] = f'work_dirs/{name}/epoch_1.pth'
    for _, tool, *words in (train, test):
        tool = tool.removeprefix('tools/')
        run_tool(tool, *words, '--cfg-options', *SMALL, cwd=tmp_path)

    work_dir = tmp_path / 'work_dirs' / name
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    classes = checkpoint['meta']['dataset_meta']['classes']
    assert classes == ('bolt', 'nut', 'washer')
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    losses = [json.loads(line).get('loss') for line in lines.splitlines()]
    assert len(losses) - losses.count(None) == 2  # 6 images, 4 at a time
    assert len(list(work_dir.glob('*/drawn/*'))) == 2


def load(name):
    cfg = Config.fromfile(f'configs/parts/{name}')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warnings.filterwarnings('ignore', '.*the warm-up lasts')
        check_data(cfg, ['train_dataloader', 'val_dataloader'])
    init_default_scope(cfg.default_scope)
    registry = import_module(f'{cfg.default_scope}.registry')
    train, val = (
        registry.DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        for split in ('train', 'val')
    )
    assert train.metainfo['classes'] == ('bolt', 'nut', 'washer')
    assert val.metainfo['classes'] == ('bolt', 'nut', 'washer')
    return cfg, train, val


def test_small_from_scratch(page, tmp_path):
    pytest.importorskip('mmdet')
    make_coco(tmp_path / 'data/parts', tmp_path / 'shapes')
    page('test_small_from_scratch', 'small.py')
    _, train, _ = load('small.py')
    assert train.pipeline.transforms[2].scale == (320, 320)


def test_masks(page, tmp_path):
    pytest.importorskip('mmdet')
    make_coco(tmp_path / 'data/parts', tmp_path / 'shapes')
    page('test_coco_format', 'boxes.py')
    page('test_masks', 'masks.py')
    folder = Path('configs/parts')
    (_, *rest) = (folder / 'boxes.py').read_text().split('model = ', 1)
    data = rest[0].partition('\n')[2]
    head = "data_root = 'data/parts/'\n"
    head += "metainfo = dict(classes=('bolt', 'nut', 'washer'))\n"
    with open(folder / 'masks.py', 'a') as stream:
        stream.write(head + data)
    cfg, train, _ = load('masks.py')
    assert cfg.model.roi_head.mask_head.num_classes == 3
    assert len(train[0]['data_samples'].gt_instances.masks)


def test_voc_format(page, tmp_path):
    pytest.importorskip('mmdet')
    root = write_voc(make_shapes(tmp_path / 'shapes', 8, 2))
    (tmp_path / 'data').mkdir()
    folder = tmp_path / 'data/parts'
    shutil.move(root / 'VOCdevkit/VOC2007', folder)
    for path in (folder / 'Annotations').iterdir():
        text = path.read_text()
        for old, new in NAMES.items():
            text = text.replace(f'<name>{old}<', f'<name>{new}<')
        path.write_text(text)
    page('test_voc_format', 'voc.py')
    cfg, train, val = load('voc.py')
    assert (len(train), len(val)) == (8, 2)
    assert cfg.model.roi_head.bbox_head.num_classes == 3
    assert cfg.test_dataloader.dataset.data_root == 'data/parts/'


def test_folders(page, tmp_path):
    pytest.importorskip('mmpretrain')
    root = make_shapes(tmp_path / 'shapes', 12, 8, formats=['imagefolder'])
    folder = tmp_path / 'data/parts'
    for split in ('train', 'val'):
        for old in ('circle', 'ring', 'square'):
            shutil.copytree(
                root / 'imagefolder' / split / old,
                folder / split / NAMES[old],
            )
    page('test_folders', 'folders.py')
    cfg, train, val = load('folders.py')
    assert 'train/washer/' in train.get_data_info(len(train) - 1)['img_path']
    assert 'val/bolt/' in val.get_data_info(0)['img_path']
    assert tuple(train[0]['inputs'].shape) == (3, 224, 224)
    model = import_module('mmpretrain.registry').MODELS.build(cfg.model)
    assert model.head.fc.out_features == 3
    assert cfg.data_preprocessor.num_classes == 3
    assert cfg.val_evaluator.topk == (1,)
