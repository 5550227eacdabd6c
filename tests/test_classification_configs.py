"""The configs for MMPretrain: schedules, ablations, the way to a detector."""

import re
import runpy
import shlex
import sys
from itertools import product
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import find_latest_checkpoint
from tool_runs import run_tool
from torch import nn

from mmba2m import HOSTS
from mmba2m.models.attentions.ba2m import BA2M

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').glob('*/*_*b*-*e_*.py')
)
ATTENTION = [path for path in CONFIGS if path.startswith('configs/attention/')]
ABLATION = 'configs/resnet/ba2m-resnet50_1xb256-300e_cifar100.py'


@pytest.fixture
def _uninitialised(monkeypatch):
    """Counting needs no values, and drawing them takes most of the time."""
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)


def read_commands(path):
    """The commands of a page: its indented lines, joined at backslashes."""
    text = (ROOT / path).read_text(encoding='utf-8').replace('\\\n', ' ')
    return re.findall(r'^    (?:\w+=\S+ )*python (.*)$', text, re.M)


def load(command, monkeypatch):
    """Config and arguments of a ``tools/train.py ...`` command."""
    monkeypatch.setattr(sys, 'argv', shlex.split(command))
    monkeypatch.chdir(ROOT)
    tool = runpy.run_path(str(ROOT / sys.argv[0]))
    args = tool['parse_args']()
    return tool['merge_args'](tool['load_config'](args), args)


def build_backbone(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model).backbone


def find_modules(network):
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BA2M)
    }


# Schedules and data


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_tells_the_schedule(path, monkeypatch):
    for name in ('IMAGENET_ROOT', 'CIFAR_ROOT'):
        monkeypatch.setenv(name, f'elsewhere/{name}')
    cfg = Config.fromfile(ROOT / path)
    pattern = r'.*_(\d)xb(\d+)-(\d+)e_(\w+)\.py'
    name = Path(path).name
    gpus, batch, epochs, data = re.fullmatch(pattern, name).groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.train_cfg.max_epochs == int(epochs)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch) == 256
    assert cfg.optim_wrapper.optimizer.lr == 0.1
    assert cfg.optim_wrapper.optimizer.momentum == 0.9
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-4
    imagenet = data == 'in1k'
    milestones = [30, 60] if imagenet else [150, 225]
    assert cfg.param_scheduler.milestones == milestones
    assert cfg.model.backbone.type.startswith('BA2M') == ('ba2m-' in name)
    root = 'elsewhere/IMAGENET_ROOT' if imagenet else 'elsewhere/CIFAR_ROOT'
    for loader in ('train', 'val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.type == ('ImageNet' if imagenet else 'CIFAR100')
        assert dataset.data_root == root
    classes = 1000 if imagenet else 100
    assert cfg.model.head.num_classes == classes
    assert cfg.data_preprocessor.num_classes == classes


def test_configs_come_in_pairs():
    """Each plain network has one with BA²M, that only adds the module."""
    plain = [
        path
        for path in CONFIGS
        if '/ba2m-' not in path and path not in ATTENTION
    ]
    assert len(plain) == 18
    for path in plain:
        path = ROOT / path
        theirs = Config.fromfile(path)
        ours = Config.fromfile(path.with_name(f'ba2m-{path.name}'))
        for key in ('type', 'ba2m_cfg', 'ba2m_stages'):
            ours.model.backbone.pop(key, None)
            theirs.model.backbone.pop(key, None)
        assert ours.to_dict() == theirs.to_dict()


@pytest.mark.parametrize('path', ATTENTION)
def test_attention_is_all_that_differs(path):
    """From the plain network, or that with BA²M, of the same schedule."""
    name = Path(path).name
    base = re.search(r'(ba2m-)?resnet\d+_.*', name).group()
    ours = Config.fromfile(ROOT / path)
    theirs = Config.fromfile(ROOT / 'configs/resnet' / base)
    assert ours.model.backbone.pop('attention')
    kind, base_kind = (
        cfg.model.backbone.pop('type') for cfg in (ours, theirs)
    )
    if not base_kind.startswith('BA2M'):
        base_kind = f'Attention{base_kind}'
    assert kind == base_kind
    assert ours.to_dict() == theirs.to_dict()


# The index of models


def test_metafiles_list_every_config():
    listed = {}
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    for folder in {str(Path(path).parent) for path in CONFIGS}:
        assert f'{folder}/metafile.yml' in index['Import']
        content = yaml.safe_load((ROOT / folder / 'metafile.yml').read_text())
        (collection,) = content['Collections']
        assert (ROOT / folder / collection['README']).exists()
        for model in content['Models']:
            if model['Config'].endswith('_coco.py'):
                continue
            assert model['Name'] == Path(model['Config']).stem
            assert model['In Collection'] == collection['Name']
            listed[model['Config']] = model
    assert sorted(listed) == CONFIGS
    for path in CONFIGS:
        assert 'Results' not in listed[path]  # none was trained in full
        metadata = listed[path]['Metadata']
        cfg = Config.fromfile(ROOT / path)
        assert metadata['Epochs'] == cfg.train_cfg.max_epochs
        # which are compared with the networks in test_paper_tables.py
        assert {'Parameters', 'FLOPs'} <= metadata.keys()


# Ablations


COMMANDS = read_commands('docs/ablations.md')


@pytest.mark.usefixtures('_uninitialised')
@pytest.mark.parametrize('command', COMMANDS)
def test_commands_of_the_ablations_build(command, monkeypatch):
    cfg = load(command, monkeypatch)
    modules = find_modules(build_backbone(cfg))
    stock = Config.fromfile(ROOT / ABLATION)
    if '--cfg-options' in command:
        assert cfg.to_dict() != stock.to_dict()
    name, _, value = command.partition('--cfg-options ')[2].partition('=')
    key = name.rpartition('.')[2]
    if key == 'reduction':
        assert {m.reduction for m in modules.values()} == {int(value)}
        assert len(modules) == 4
    elif key == 'branches':
        for module in modules.values():
            assert module.channel is not None
            assert module.local_spatial is not None
            assert module.global_spatial is None
    elif key == 'ba2m_stages':
        assert list(modules) == ['layer2.ba2m', 'layer4.ba2m']
    elif key == 'batch_size':
        assert cfg.train_dataloader.batch_size == 64
        assert cfg.auto_scale_lr.enable
        # MMEngine's rule: lr · 64 / 256
        assert cfg.auto_scale_lr.base_batch_size == 256
    elif key == 'position':
        assert len(modules) == 4 + 6 + 3
        widths = {m.in_channels for m in modules.values()}
        assert widths == {128, 256, 512}
    elif 'inside' in command:
        assert len(modules) == 3 + 4 + 6 + 3
        assert all(re.fullmatch(r'layer\d\.\d\.ba2m', n) for n in modules)
    else:
        assert key in ('scale_by_batch', 'inference')
        expected = yaml.safe_load(value)
        assert {getattr(m, key) for m in modules.values()} == {expected}


def test_the_page_has_every_ablation():
    text = '\n'.join(COMMANDS)
    for key in ('reduction', 'branches', 'inside', 'ba2m_stages'):
        assert key in text
    assert 'batch_size' in text and '--auto-scale-lr' in text


@pytest.mark.usefixtures('_uninitialised')
@pytest.mark.parametrize(
    ('option', 'values'),
    [
        (
            'ba2m_cfg.branches',
            ['[channel]', '[local]', '[global]', '[channel,global]'],
        ),
        ('ba2m_stages', [list(c) for c in product((True, False), repeat=4)]),
    ],
)
def test_options_take_every_combination(option, values, monkeypatch):
    for value in values:
        command = f'tools/train.py {ABLATION} --cfg-options '
        command += f'"model.backbone.{option}={value}"'.replace(', ', ',')
        cfg = load(command, monkeypatch)
        backbone = cfg.model.backbone
        # as small as R = 32 allows
        backbone.update(base_channels=8, stem_channels=8)
        cfg.model.head.in_channels = 256
        modules = find_modules(build_backbone(cfg))
        if option == 'ba2m_stages':
            names = [f'layer{i}.ba2m' for i in (1, 2, 3, 4)]
            expected = [n for n, on in zip(names, value, strict=True) if on]
            assert list(modules) == expected
        else:
            for module in modules.values():
                for branch, name in (
                    ('channel', 'channel'),
                    ('local_spatial', 'local'),
                    ('global_spatial', 'global'),
                ):
                    present = getattr(module, branch) is not None
                    assert present == (name in value)


# From a classifier to a detector


NARROW = (
    'model.backbone.base_channels=8',
    'model.backbone.stem_channels=8',
)
PRETRAINED = 'work_dirs/ba2m-resnet50_8xb32-90e_in1k/epoch_90.pth'


@pytest.mark.skipif('mmdet' not in HOSTS, reason='MMDetection is not there')
def test_checkpoint_of_a_classifier_starts_a_detector(tmp_path, monkeypatch):
    """As configs/resnet/README.md says, with two iterations of training."""
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        for i in range(2):
            image = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            mmcv.imwrite(image, str(tmp_path / f'images/{name}/{i}.png'))
    base = ROOT / 'configs/resnet/ba2m-resnet50_8xb32-90e_in1k.py'
    (tmp_path / 'tiny.py').write_text(f"""
_base_ = {str(base)!r}
dataset = dict(
    _delete_=True,
    type='CustomDataset',
    data_root={str(tmp_path / 'images')!r},
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='CenterCrop', crop_size=32),
        dict(type='PackInputs'),
    ],
)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset
)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
model = dict(head=dict(num_classes=2, in_channels=256, topk=(1,)))
train_cfg = dict(max_epochs=1)
default_hooks = dict(checkpoint=dict(save_best=None))
""")
    work_dir = tmp_path / 'work_dir'
    config = tmp_path / 'tiny.py'
    run_tool(
        *('train.py', config, '--work-dir', work_dir),
        *('--cfg-options', *NARROW),
    )
    checkpoint = find_latest_checkpoint(str(work_dir))
    weights = torch.load(checkpoint, weights_only=False)
    assert weights['meta']['iter'] == 2
    weights = weights['state_dict']

    commands = read_commands('configs/resnet/README.md')
    (command,) = [text for text in commands if PRETRAINED in text]
    command = command.replace(PRETRAINED, checkpoint)
    options = (*NARROW, '"model.neck.in_channels=[32,64,128,256]"')
    cfg = load(' '.join([command, *options]), monkeypatch)
    init_default_scope('mmdet')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    state = detector.backbone.state_dict()
    assert any('.ba2m.' in key for key in state)
    for key, value in state.items():
        assert torch.equal(value, weights[f'backbone.{key}']), key
    normalizers = [v for k, v in state.items() if 'running_normalizer' in k]
    assert len(normalizers) == 4
    assert all(value > 1 for value in normalizers)  # they were trained
    backbone_keys = [k for k in weights if k.startswith('backbone.')]
    assert len(backbone_keys) == len(state)


@pytest.mark.skipif('mmdet' not in HOSTS, reason='MMDetection is not there')
def test_checkpoint_with_attention_starts_a_detector(tmp_path, monkeypatch):
    """As configs/attention/README.md says."""
    name = 'bav2-resnet50_8xb32-90e_in1k'
    cfg = Config.fromfile(ROOT / f'configs/attention/{name}.py')
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    weights = build_backbone(cfg).state_dict()
    for value in weights.values():
        value.copy_(torch.rand(value.shape) * 3)
    checkpoint = str(tmp_path / 'epoch_90.pth')
    state_dict = {f'backbone.{key}': v for key, v in weights.items()}
    torch.save(dict(meta={}, state_dict=state_dict), checkpoint)

    path = f'work_dirs/{name}/epoch_90.pth'
    commands = read_commands('configs/attention/README.md')
    (command,) = [text for text in commands if path in text]
    options = (*NARROW, '"model.neck.in_channels=[32,64,128,256]"')
    command = ' '.join([command.replace(path, checkpoint), *options])
    cfg = load(command, monkeypatch)
    init_default_scope('mmdet')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    state = detector.backbone.state_dict()
    assert state.keys() == weights.keys()
    for key, value in state.items():
        assert torch.equal(value, weights[key]), key
