"""The configs for MMPretrain: schedules, the way to a detector."""

import re
import shlex
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmba2m import HOSTS
from mmba2m.engine.cli import create_parser
from mmba2m.inspect.complexity import build_on_meta

pytest.importorskip('mmpretrain')

from mmpretrain.structures import DataSample

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    path.relative_to(ROOT / 'configs').as_posix()
    for path in (ROOT / 'configs').glob('*/*_*b*-*e_*.py')
    if not path.match('*-300e_in1k.py')  # in test_bridge_configs.py
)


def read_commands(path):
    """The commands of a page: its indented lines, joined at backslashes."""
    text = (ROOT / path).read_text(encoding='utf-8').replace('\\\n', ' ')
    return re.findall(r'^    (?:\w+=\S+ )*python (.*)$', text, re.M)


def load_command(command, load_config):
    """The config of a ``tools/train.py CONFIG …`` command."""
    args = create_parser(None).parse_args(shlex.split(command)[1:])
    cfg = deepcopy(load_config(args.config.removeprefix('configs/')))
    cfg.merge_from_dict(args.cfg_options or {})
    return cfg


# Schedules and data


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_tells_the_schedule(path, load_config):
    cfg = load_config(path)
    pattern = r'.*_(\d)xb(\d+)-(\d+)e_(\w+)\.py'
    name = Path(path).name
    gpus, batch, epochs, data = re.fullmatch(pattern, name).groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.train_cfg.max_epochs == int(epochs)
    total, decay, milestones, gamma = {
        '90': (256, 1e-4, [30, 60], 0.1),
        '200': (128, 5e-4, [60, 120, 160], 0.2),  # of MMPretrain, see below
        '300': (256, 1e-4, [150, 225], 0.1),
    }[epochs]
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch) == total
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum) == (0.1, 0.9)
    assert optimizer.weight_decay == decay
    schedule = cfg.param_scheduler
    assert (schedule.milestones, schedule.gamma) == (milestones, gamma)
    imagenet = data == 'in1k'
    for loader in ('train', 'val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        assert dataset.type == ('ImageNet' if imagenet else 'CIFAR100')
    classes = 1000 if imagenet else 100
    assert cfg.model.head.num_classes == classes
    assert cfg.data_preprocessor.num_classes == classes


def without_scopes(node):
    if not isinstance(node, dict):
        return node
    return {k: without_scopes(v) for k, v in node.items() if k != '_scope_'}


def test_default_for_cifar100_is_the_recipe_of_the_host(load_config):
    host = get_config('mmpretrain::resnet/resnet50_8xb16_cifar100.py')
    ours = load_config('resnet/resnet50_1xb128-200e_cifar100.py')
    for part in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert without_scopes(ours[part]) == without_scopes(host[part]), part
    train, theirs = ours.train_dataloader.dataset, host.train_dataloader
    for own, other in zip(
        train.pipeline, theirs.dataset.pipeline, strict=True
    ):
        assert without_scopes(own) == without_scopes(other)
    assert ours.train_dataloader.batch_size == 8 * theirs.batch_size
    small = load_config('studies/resnet50_cifar10.py')
    own = dict(by_epoch=True, **without_scopes(small.param_scheduler))
    assert own == without_scopes(host.param_scheduler)
    own = without_scopes(small.optim_wrapper.optimizer)
    assert own == dict(**host.optim_wrapper.optimizer, nesterov=False)
    networks = []
    for cfg in (host, small):
        cfg = deepcopy(cfg)
        cfg.model.head.num_classes = 10
        state = build_on_meta(cfg).state_dict()
        networks.append({name: x.shape for name, x in state.items()})
    assert networks[0] == networks[1]


@pytest.mark.parametrize('name', ['cifar100_bs256', 'imagenet_bs32'])
def test_batches_are_one_tensor(name, load_config):
    """A tensor per image costs more to hand over than to load."""
    images = torch.arange(36, dtype=torch.uint8).reshape(3, 3, 2, 2)
    samples = [
        dict(inputs=image, data_samples=DataSample()) for image in images
    ]
    for phase in ('train', 'val', 'test'):
        cfg = load_config(f'_base_/datasets/{name}.py')
        loader = dict(cfg[f'{phase}_dataloader'])
        assert loader['num_workers'] > 0
        assert loader['persistent_workers'] and loader['pin_memory']
        # without processes and, on a machine that may have no GPU, unpinned
        loader.update(
            num_workers=0,
            persistent_workers=False,
            pin_memory=False,
            dataset=samples,
            sampler=torch.utils.data.SequentialSampler(samples),
        )
        (batch,) = Runner.build_dataloader(loader)
        assert torch.equal(batch['inputs'], images)


# From a classifier to a detector


@pytest.mark.skipif('mmdet' not in HOSTS, reason='MMDetection is not there')
@pytest.mark.parametrize(
    ('page', 'folder', 'name'),
    [
        ('docs/pretraining.md', 'resnet', 'ba2m-resnet50_8xb32-90e_in1k'),
        (
            'configs/attention/README.md',
            'attention',
            'bav2-resnet50_8xb32-90e_in1k',
        ),
    ],
)
def test_checkpoint_of_a_classifier_starts_a_detector(
    page, folder, name, tmp_path, load_config
):
    """By the command of the page, with narrow networks."""
    narrow = dict(base_channels=8, stem_channels=8)
    cfg = deepcopy(load_config(f'{folder}/{name}.py'))
    cfg.model.backbone.update(narrow)
    weights = {
        key: torch.rand(value.shape).to(value.dtype) * 3
        for key, value in build_on_meta(cfg).backbone.state_dict().items()
    }
    checkpoint = str(tmp_path / 'epoch_90.pth')
    state_dict = {f'backbone.{key}': v for key, v in weights.items()}
    torch.save(dict(meta={}, state_dict=state_dict), checkpoint)

    named = f'work_dirs/{name}/epoch_90.pth'
    (command,) = [text for text in read_commands(page) if named in text]
    cfg = load_command(command.replace(named, checkpoint), load_config)
    cfg.model.backbone.update(narrow)
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    init_default_scope('mmdet')
    detector = MODELS.build(cfg.model)
    detector.init_weights()
    state = detector.backbone.state_dict()
    assert state.keys() == weights.keys()
    for key, value in state.items():
        assert torch.equal(value, weights[key]), key
