"""The configs for MMPretrain: schedules, the way to a detector."""

import re
import shlex
from copy import deepcopy
from pathlib import Path

import pytest
import torch
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
