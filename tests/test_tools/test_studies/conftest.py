"""The modules of tools/studies, and a study that takes seconds."""

from pathlib import Path

import mmcv
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[3]
CONFIG = f"""
_base_ = '{ROOT}/configs/studies/ba2m-resnet18_small_cifar10.py'
model = dict(
    backbone=dict(stem_channels=4, base_channels=4, ba2m_stages=[False] * 4),
    head=dict(in_channels=32, num_classes=2),
)
data_preprocessor = dict(num_classes=2)
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
"""
STUDY = """
title: A toy
config: {0}
start: {0}
metrics: {{accuracy/top1: {{label: 'accuracy, %'}}}}
seeds: [0]
reference: plain
variants:
  plain:
  ba2m:
    label: BA²M
    options: {{model.backbone.ba2m_stages: [true, false, true, true]}}
    evaluations: ['off']
evaluations:
  'off': {{options: {{model.backbone.ba2m_cfg.inference: identity}}}}
"""


@pytest.fixture
def study_tools(load_tools):
    return load_tools('studies')


@pytest.fixture
def toy(tmp_path):
    """A study of two variants on 12 images."""
    return Toy(tmp_path)


class Toy:
    """A folder with data, config and study file."""

    def __init__(self, folder):
        self.folder = folder
        self.env = {'CIFAR10_ROOT': str(folder / 'data')}
        self.config = folder / 'toy.py'
        self.config.write_text(CONFIG)
        self.study = yaml.safe_load(STUDY.format(self.config))

    def draw(self):
        """Draws the images."""
        generator = np.random.default_rng(0)
        for name, offset in (('a', 0), ('b', 100)):
            for index in range(6):
                image = generator.integers(offset, offset + 150, (32, 32, 3))
                path = self.folder / f'data/train/{name}/{index}.png'
                mmcv.imwrite(image.astype(np.uint8), str(path))
        (self.folder / 'data/test').symlink_to(self.folder / 'data/train')
        return self

    def write(self, name='toy', **changes):
        path = self.folder / f'{name}.yml'
        content = {**self.study, **changes}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def args(self, study, variant=None, seed=0, results='results'):
        """Arguments of run.py: for one run, or for all of a study."""
        one = ['--variant', variant, '--seed', str(seed)] if variant else []
        folders = ['--results', str(self.folder / results)]
        folders += ['--work-dir', str(self.folder / f'{results}_work')]
        return [str(study), *one, *folders]

    def record(self, variant, seed=0, results='results'):
        return self.folder / results / f'toy/{variant}/seed{seed}.json'

    def work_dir(self, variant, seed=0, results='results'):
        return self.folder / f'{results}_work/toy/{variant}/seed{seed}'
