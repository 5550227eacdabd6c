"""The configs for MMPretrain: schedules, ablations, the way to a detector."""

import re
import shlex
from copy import deepcopy
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.registry import MODELS, init_default_scope

from mmba2m import HOSTS
from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.engine.cli import create_parser
from mmba2m.inspect.complexity import build_on_meta
from mmba2m.models.attentions.ba2m import BA2M

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    path.relative_to(ROOT / 'configs').as_posix()
    for path in (ROOT / 'configs').glob('*/*_*b*-*e_*.py')
)
PLAIN = [
    path for path in CONFIGS if re.search('^(?!attention).*/(?!ba2m-)', path)
]
ATTENTION = [path for path in CONFIGS if path.startswith('attention/')]
ABLATION = 'resnet/ba2m-resnet50_1xb256-300e_cifar100.py'


def read_commands(path):
    """The commands of a page: its indented lines, joined at backslashes."""
    text = (ROOT / path).read_text(encoding='utf-8').replace('\\\n', ' ')
    return re.findall(r'^    (?:\w+=\S+ )*python (.*)$', text, re.M)


def load_command(command, load_config):
    """Config and arguments of a ``tools/train.py CONFIG …`` command."""
    parser = create_parser(None)
    parser.add_argument('--auto-scale-lr', action='store_true')
    args = parser.parse_args(shlex.split(command)[1:])
    cfg = deepcopy(load_config(args.config.removeprefix('configs/')))
    cfg.merge_from_dict(args.cfg_options or {})
    return cfg, args


def find_modules(network):
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BA2M)
    }


# Schedules and data


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_tells_the_schedule(path, load_config):
    cfg = load_config(path)
    pattern = r'.*_(\d)xb(\d+)-(\d+)e_(\w+)\.py'
    name = Path(path).name
    gpus, batch, epochs, data = re.fullmatch(pattern, name).groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.train_cfg.max_epochs == int(epochs)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch) == 256
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum) == (0.1, 0.9)
    assert optimizer.weight_decay == 1e-4
    imagenet = data == 'in1k'
    milestones = [30, 60] if imagenet else [150, 225]
    assert cfg.param_scheduler.milestones == milestones
    for loader in ('train', 'val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.type == ('ImageNet' if imagenet else 'CIFAR100')
    classes = 1000 if imagenet else 100
    assert cfg.model.head.num_classes == classes
    assert cfg.data_preprocessor.num_classes == classes


def test_only_the_backbone_sets_configs_apart(load_config):
    """With BA²M, or attention, from the network of the same schedule."""
    assert len(PLAIN) == 18
    pairs = [(path, path.replace('/', '/ba2m-')) for path in PLAIN]
    for path in ATTENTION:
        base = re.search(r'(ba2m-)?resnet50_.*', path).group()
        pairs.append((f'resnet/{base}', path))
    for theirs, ours in pairs:
        theirs = load_config(theirs).to_dict()
        ours = load_config(ours).to_dict()
        kinds = [cfg['model']['backbone']['type'] for cfg in (theirs, ours)]
        for cfg in (theirs, ours):
            for key in ('type', 'ba2m_cfg', 'ba2m_stages'):
                cfg['model']['backbone'].pop(key, None)
        if ours['model']['backbone'].pop('attention', None):
            if not kinds[0].startswith('BA2M'):
                assert kinds[1] == f'Attention{kinds[0]}'
        else:
            assert kinds[1] == f'BA2M{kinds[0]}'
        assert ours == theirs


# Ablations


COMMANDS = read_commands('docs/ablations.md')


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_of_the_ablations_build(command, load_config):
    cfg, args = load_command(command, load_config)
    modules = find_modules(build_on_meta(cfg).backbone)
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
        assert args.auto_scale_lr
        # MMEngine's rule: lr · 64 / 256
        assert cfg.auto_scale_lr.base_batch_size == 256
    elif key == 'position':
        assert len(modules) == 4 + 6 + 3
        widths = {m.in_channels for m in modules.values()}
        assert widths == {128, 256, 512}
    elif 'inside' in command:
        assert len(modules) == 3 + 4 + 6 + 3
        assert all(re.match(r'layer\d\.\d\.', name) for name in modules)
    else:
        assert key in ('scale_by_batch', 'inference')
        expected = yaml.safe_load(value)
        assert {getattr(m, key) for m in modules.values()} == {expected}


def test_the_page_has_every_ablation():
    text = '\n'.join(COMMANDS)
    for key in ('reduction', 'branches', 'inside', 'ba2m_stages'):
        assert key in text
    assert 'batch_size' in text and '--auto-scale-lr' in text


def test_branches_take_every_combination(load_config):
    names = ('channel', 'local', 'global')
    for present in product((True, False), repeat=3):
        if not any(present):
            continue
        chosen = [n for n, on in zip(names, present, strict=True) if on]
        option = f'model.backbone.ba2m_cfg.branches=[{",".join(chosen)}]'
        command = f'train.py configs/{ABLATION} --cfg-options {option}'
        cfg, _ = load_command(command, load_config)
        for module in find_modules(build_on_meta(cfg)).values():
            branches = (
                module.channel,
                module.local_spatial,
                module.global_spatial,
            )
            assert tuple(b is not None for b in branches) == present


def test_stages_take_every_combination(load_config):
    for stages in product((True, False), repeat=4):
        option = f'model.backbone.ba2m_stages={list(stages)}'.replace(' ', '')
        command = f'train.py configs/{ABLATION} --cfg-options {option}'
        cfg, _ = load_command(command, load_config)
        modules = find_modules(build_on_meta(cfg).backbone)
        numbers = [i for i, on in enumerate(stages, 1) if on]
        assert list(modules) == [f'layer{i}.ba2m' for i in numbers]


# From a classifier to a detector


@pytest.mark.skipif('mmdet' not in HOSTS, reason='MMDetection is not there')
def test_checkpoint_of_a_classifier_starts_a_detector(
    classifier_run, load_config
):
    """As docs/pretraining.md says, from the demo's classifier."""
    named = 'work_dirs/ba2m-resnet50_8xb32-90e_in1k/epoch_90.pth'
    checkpoint = str(classifier_run / 'epoch_1.pth')
    small = load_config('demo/ba2m-resnet18_shapes.py').model.backbone
    options = [
        f'model.backbone.{key}={small[key]}'
        for key in ('depth', 'stem_channels', 'base_channels')
    ]
    options += [
        f'model.backbone.ba2m_cfg.reduction={small.ba2m_cfg.reduction}',
        '"model.neck.in_channels=[16,32,64,128]"',
    ]
    commands = read_commands('docs/pretraining.md')
    (command,) = [text for text in commands if named in text]
    command = ' '.join([command.replace(named, checkpoint), *options])
    state = start(load_command(command, load_config)[0])
    weights = load_checkpoint(checkpoint)['state_dict']
    assert any('.ba2m.' in key for key in state)
    for key, value in state.items():
        assert torch.equal(value, weights[f'backbone.{key}']), key
    normalizers = [v for k, v in state.items() if 'running_normalizer' in k]
    assert len(normalizers) == 4
    assert all(value > 1 for value in normalizers)  # they were trained
    assert len(state) == sum(key.startswith('backbone.') for key in weights)


@pytest.mark.skipif('mmdet' not in HOSTS, reason='MMDetection is not there')
def test_checkpoint_with_attention_starts_a_detector(tmp_path, load_config):
    """As configs/attention/README.md says."""
    name = 'bav2-resnet50_8xb32-90e_in1k'
    narrow = dict(base_channels=8, stem_channels=8)
    cfg = deepcopy(load_config(f'attention/{name}.py'))
    cfg.model.backbone.update(narrow)
    weights = {
        key: torch.rand(value.shape).to(value.dtype) * 3
        for key, value in build_on_meta(cfg).backbone.state_dict().items()
    }
    checkpoint = str(tmp_path / 'epoch_90.pth')
    state_dict = {f'backbone.{key}': v for key, v in weights.items()}
    torch.save(dict(meta={}, state_dict=state_dict), checkpoint)

    named = f'work_dirs/{name}/epoch_90.pth'
    commands = read_commands('configs/attention/README.md')
    (command,) = [text for text in commands if named in text]
    cfg, _ = load_command(command.replace(named, checkpoint), load_config)
    cfg.model.backbone.update(narrow)
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    state = start(cfg)
    assert state.keys() == weights.keys()
    for key, value in state.items():
        assert torch.equal(value, weights[key]), key


def start(cfg):
    """The backbone's weights as a training of a detector begins with."""
    init_default_scope('mmdet')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    return detector.backbone.state_dict()
