"""Every config: it builds, has the modules that its name says, and trains."""

import copy
import re
from pathlib import Path

import pytest
import torch
from batches import make_batch, take_few_regions
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmba2m.datasets import SHAPES_CLASSES
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.backbones.slots import find_attention, to_entries

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

from test_detection_configs import difference

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    path.relative_to(ROOT / 'configs').as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)

# It builds


@pytest.mark.parametrize('path', CONFIGS)
def test_network_has_the_modules_of_its_name(path, load_config, build_network):
    cfg, network = load_config(path), build_network(path)
    assert cfg.custom_imports.imports == ['mmba2m']
    hook = cfg.default_hooks.ba2m_logger
    assert hook == dict(type='mmba2m.BA2MLoggerHook')
    backends = [backend.type for backend in cfg.visualizer.vis_backends]
    assert backends == ['LocalVisBackend', 'TensorboardVisBackend']
    modules = list(network.backbone.modules())
    found = any(isinstance(module, BA2M) for module in modules)
    has_module = 'ba2m' in path.rpartition('/')[2]
    assert found == has_module
    entries = to_entries(cfg.model.backbone.get('attention'))
    assert bool(entries) == (
        path.startswith('attention/') or '/ba2m-inside' in path
    )
    for entry in entries:
        cls = find_attention(entry['type'])
        assert any(isinstance(module, cls) for module in modules)


def find_plain(path):
    """The path of the config without the module that the name begins with."""
    folder, _, name = path.rpartition('/')
    if folder != 'attention':
        return path.replace('ba2m-', '')
    plain = re.search(r'(ba2m-)?(r50|(pre|wide-)?resnex?t)\w*[-_].*', name)
    detector = 'faster-rcnn_' if name.startswith('faster-rcnn_') else ''
    plain = f'/{detector}{plain.group()}' if plain else path
    found = [p for p in CONFIGS if p.endswith(plain)]
    return next((p for p in found if 'attention/' not in p), path)


def test_only_the_backbone_sets_configs_apart(load_config):
    """With BA²M, or attention, from the network of the same schedule."""
    options = ('type', 'base', 'ba2m_cfg', 'ba2m_stages', 'attention')
    options = {f'model.backbone.{key}' for key in options}
    pairs = [(path, find_plain(path)) for path in CONFIGS]
    pairs = [(a, b) for a, b in pairs if a != b and b in CONFIGS]
    assert len(pairs) > 50
    for path, plain in pairs:
        ours, theirs = load_config(path), load_config(plain)
        assert difference(ours, theirs) <= options, path
        kind = theirs.model.backbone.type.removeprefix('BA2M')
        kinds = {f'BA2M{kind}', f'Attention{kind}', kind}
        backbone = ours.model.backbone
        assert backbone.get('base', backbone.type) in kinds, path


def test_depth_101_differs_in_the_depth(load_config):
    for path in CONFIGS:
        if '-r101' in path or '_r101' in path:
            cfg = load_config(path)
            assert difference(cfg, load_config(path.replace('101', '50'))) == {
                'model.backbone.depth',
                'model.backbone.init_cfg.checkpoint',
            }
            assert cfg.model.backbone.depth == 101
            start = cfg.model.backbone.init_cfg
            assert start.checkpoint == 'torchvision://resnet101'


# It trains: one of each kind, and the smallest of either host at once

FAST = (
    'demo/ba2m-resnet18_shapes.py',
    'demo/faster-rcnn_ba2m-r18_fpn_shapes.py',
)
SLOW = (
    'attention/bav1-resnet50_8xb32-90e_in1k.py',
    'attention/bav2-convnext-tiny_4xb128-300e_in1k.py',
    'attention/bav2-efficientnet-b0_4xb256-300e_in1k.py',
    'attention/bav2-regnety-4.0gf_4xb128-300e_in1k.py',
    'attention/bav2-swin-tiny_4xb128-300e_in1k.py',
    'attention/bam-resnext29-8x64d_1xb256-300e_cifar100.py',
    'attention/faster-rcnn_bav2-r50_fpn_2x_coco.py',
    'attention/se-ba2m-resnet50_1xb256-300e_cifar100.py',
    'attention/se-preresnet110_1xb256-300e_cifar100.py',
    'attention/sk-resnext50-32x4d_8xb32-90e_in1k.py',
    'bccd/retinanet_ba2m-r18_fpn_1x_bccd.py',
    'bccd/retinanet_ba2m-r18_fpn_softmax_1x_bccd.py',
    'densenet/ba2m-densenet100_1xb256-300e_cifar100.py',
    'efficientnet/ba2m-efficientnet-b0_1xb256-300e_cifar100.py',
    'mask_rcnn/mask-rcnn_ba2m-r50_fpn_2x_coco.py',
    'mobilenet_v2/ba2m-mobilenet-v2_1xb256-300e_cifar100.py',
    'preresnet/ba2m-preresnet110_1xb256-300e_cifar100.py',
    'resnet/ba2m-inside-resnet50_1xb256-300e_cifar100.py',
    'resnext/ba2m-resnext29-8x64d_1xb256-300e_cifar100.py',
    'resnext/ba2m-resnext50-32x4d_8xb32-90e_in1k.py',
    'shufflenet_v2/ba2m-shufflenet-v2-1x_1xb256-300e_cifar100.py',
    'studies/retinanet_r50_thin_bccd.py',
)


def test_every_kind_is_among_those_that_train(build_network):
    def kind(path):
        network = build_network(path)
        head = getattr(network, 'bbox_head', None)
        return type(network), type(head), type(network.backbone)

    trained = {kind(path) for path in FAST + SLOW}
    for path in CONFIGS:
        if kind(path)[2].__name__.startswith(('BA2M', 'Attention')):
            assert kind(path) in trained, path


@pytest.mark.filterwarnings('ignore:BA2M')
@pytest.mark.parametrize(
    'path',
    [*FAST, *(pytest.param(path, marks=pytest.mark.slow) for path in SLOW)],
)
def test_config_trains_a_step_and_predicts(path, load_config):
    cfg = copy.deepcopy(load_config(path))
    # the start from ImageNet would be downloaded
    cfg.merge_from_dict({'model.backbone.init_cfg': None})
    take_few_regions(cfg.model)
    if 'data_preprocessor' in cfg:  # as the Runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()
    size = (96, 128) if cfg.default_scope == 'mmdet' else (64, 64)
    if 'swin' in path:  # no map may be smaller than its windows
        size = (224, 224)
    data = make_batch(cfg.default_scope, model, *size)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = copy.deepcopy(model.state_dict())
    loss = model.train().train_step(data, optim_wrapper)['loss']
    assert loss > 0 and loss.isfinite()
    # by weight decay also where the gradient is 0, but not where there is
    # none; what starts at 0, behind a norm that does, has neither
    for name, weight in model.named_parameters():
        assert weight.isfinite().all(), name
        if weight.requires_grad and weight.dim() > 1 and before[name].any():
            assert not torch.equal(weight, before[name]), name

    model.eval()
    with torch.no_grad():
        first, second = model.test_step(data)
    if cfg.default_scope == 'mmdet':
        for result in (first, second):
            assert result.pred_instances.bboxes.size(1) == 4
            if 'mask-rcnn' in path:
                shape = tuple(result.pred_instances.masks.shape[1:])
                assert shape == result.ori_shape
    else:
        scores = torch.stack([first.pred_score, second.pred_score])
        assert scores.shape == (2, model.head.num_classes)
        torch.testing.assert_close(scores.sum(1), torch.ones(2))


# Data


def test_shapes_config_has_the_classes_of_the_generator(load_config):
    cfg = load_config('_base_/datasets/shapes_detection.py')
    assert cfg.train_dataloader.dataset.metainfo.classes == SHAPES_CLASSES


@pytest.mark.parametrize(
    ('name', 'variable', 'default'),
    [
        ('_base_/datasets/coco_detection', 'COCO', 'coco'),
        ('_base_/datasets/coco_instance', 'COCO', 'coco'),
        ('_base_/datasets/voc0712', 'VOC', 'VOCdevkit'),
        ('_base_/datasets/voc0712_instance', 'VOC', 'VOCdevkit'),
        ('_base_/datasets/bccd_detection', 'BCCD', 'bccd'),
        ('_base_/datasets/imagenet_bs32', 'IMAGENET', 'imagenet'),
        ('_base_/datasets/cifar100_bs256', 'CIFAR', 'cifar100'),
        ('_base_/datasets/shapes_detection', 'SHAPES', 'shapes'),
        ('demo/ba2m-resnet18_shapes', 'SHAPES', 'shapes'),
    ],
)
def test_data_root_follows_the_environment(
    name, variable, default, load_config, monkeypatch
):
    here = str(load_config(f'{name}.py').to_dict())
    monkeypatch.setenv(f'{variable}_ROOT', 'elsewhere/of')
    there = Config.fromfile(ROOT / f'configs/{name}.py').to_dict()
    assert f'data/{default}' in here
    assert here.replace(f'data/{default}', 'elsewhere/of') == str(there)


# The index of models


def test_index_lists_every_config_once():
    """MMEngine finds ``mmba2m::…`` and MMPretrain the models by it."""
    modelindex = pytest.importorskip('modelindex.load_model_index')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    assert not index.check(silent=True)
    collections = {collection.name for collection in index.collections}
    listed = []
    for model in index.models:
        assert model.name == Path(model.config).stem
        assert model.in_collection in collections
        listed.append(model.config.removeprefix('configs/'))
    assert sorted(listed) == [p for p in CONFIGS if 'studies/' not in p]
    # the others were not trained in full
    assert {model.name for model in index.models if model.results} == {
        'faster-rcnn_ba2m-r18_fpn_1x_bccd',
        'faster-rcnn_ba2m-r18_fpn_shapes',
        'faster-rcnn_ba2m-r18_fpn_tiny_bccd',
    }
