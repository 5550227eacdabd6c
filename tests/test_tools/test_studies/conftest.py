"""The modules of tools/studies, and a study that takes seconds."""

import argparse
import importlib
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import mmcv
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / 'tools/studies'

CONFIG = """
_base_ = '{root}/configs/_base_/default_runtime_cls.py'
data_root = '{{{{$TOY_ROOT:nowhere}}}}'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=2, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
    ),
    backbone=dict(
        type='BA2MResNet_CIFAR',
        depth=18,
        stem_channels=4,
        base_channels=4,
        ba2m_stages=(False, False, False, False),
        ba2m_cfg=dict(reduction=4),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=2,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1,),
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(save_best=None)
)
"""


@pytest.fixture(scope='session')
def study_tools():
    """The modules of the tools, by name."""
    names = 'comparison', 'report', 'run', 'shared_start', 'study'
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        modules = {name: importlib.import_module(name) for name in names}
        yield modules
    for name in names:  # common names, and other tests' to take
        sys.modules.pop(name)


@pytest.fixture
def toy(tmp_path):
    """A study of two variants on 12 images, and how to run it."""
    return Toy(tmp_path)


class Toy:
    """A folder with data, config and study file."""

    #: in which second the last tool ended that ran in this process
    ended = 0

    def __init__(self, folder):
        self.folder = folder
        self.calls = []
        self.results = folder / 'results'
        self.work_dir = folder / 'work'
        generator = np.random.default_rng(0)
        for name, offset in (('a', 0), ('b', 100)):
            (folder / 'data' / name).mkdir(parents=True)
            for index in range(6):
                image = generator.integers(offset, offset + 150, (16, 16, 3))
                mmcv.imwrite(
                    image.astype(np.uint8),
                    str(folder / f'data/{name}/{index}.png'),
                )
        self.config = folder / 'toy.py'
        self.config.write_text(CONFIG.format(root=ROOT))
        self.study = dict(
            title='A toy',
            config=str(self.config),
            start=str(self.config),
            metrics={'accuracy/top1': {'label': 'accuracy, %'}},
            data=dict(
                variable='TOY_ROOT',
                default='nowhere',
                folders=['a', 'b'],
                get='draw --it',
            ),
            seeds=[0],
            reference='plain',
            variants=dict(
                plain=None,
                ba2m=dict(
                    label='BA²M',
                    options={
                        'model.backbone.ba2m_stages': [True, False, True, True]
                    },
                    evaluations=['off'],
                ),
            ),
            evaluations=dict(
                off=dict(
                    options={'model.backbone.ba2m_cfg.inference': 'identity'}
                )
            ),
        )

    def write(self, name='toy', **changes):
        path = self.folder / f'{name}.yml'
        path.write_text(
            yaml.safe_dump({**self.study, **changes}, sort_keys=False)
        )
        return path

    def record(self, variant, seed=0):
        return self.results / f'toy/{variant}/seed{seed}.json'

    def arguments(self, *studies, jobs=1):
        """What the command line of run.py gives."""
        return argparse.Namespace(
            studies=studies,
            jobs=jobs,
            threads=1,
            results=self.results,
            work_dir=self.work_dir,
        )

    def start(self, *args):
        """Starts run.py in a process group of its own."""
        return subprocess.Popen(
            [
                *(sys.executable, str(TOOLS / 'run.py'), *map(str, args)),
                *('--results', str(self.results)),
                *('--work-dir', str(self.work_dir)),
            ],
            env=dict(os.environ, TOY_ROOT=str(self.folder / 'data')),
            start_new_session=True,
        )

    def run(self, study_tools, path, variant, seed=0, results=None):
        """Does one run in this process, which spares imports."""
        args = self.arguments(path)
        args.results = results or self.results
        args.work_dir = self.work_dir / (results or self.results).name
        study = study_tools['study'].load_study(path)
        run = study_tools['run'].Run(
            study, study.variants[variant], seed, args
        )
        run.work_dir.mkdir(parents=True, exist_ok=True)
        run.execute(self.call)
        return run

    def call(self, tool, *args):
        """Runs a tool in this process."""
        # MMEngine names a run by the second, and runs of one name in one
        # process write to one folder
        while int(time.time()) == Toy.ended:
            time.sleep(0.01)
        self.calls.append(tool)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [tool, *map(str, args)])
            patch.setenv('TOY_ROOT', str(self.folder / 'data'))
            patch.syspath_prepend((ROOT / tool).parent)
            runpy.run_path(str(ROOT / tool), run_name='__main__')
        Toy.ended = int(time.time())
