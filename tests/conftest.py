import functools
import re
from contextlib import contextmanager
from multiprocessing import set_forkserver_preload
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from tool_runs import leave_group, run_tool
from torch import distributed

from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.datasets import make_shapes
from mmba2m.inspect.complexity import build_on_meta

# importing the hosts takes longer than most of what a new process is tested
# for; nothing of mmba2m is imported
set_forkserver_preload(['mmdet.apis', 'mmpretrain.apis'])


@pytest.fixture(autouse=True, scope='session')
def _read_metafiles_once():
    """MMEngine reads all metafiles of a host for each base of a config."""
    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(mmengine.load)
        patch.setattr('mmengine.config.utils.load', load)
        yield


@pytest.fixture(autouse=True, scope='session')
def _default_data_roots():
    """Removes a user's COCO_ROOT and the like from the environment."""
    configs = Path(__file__).parents[1] / 'configs'
    texts = [path.read_text('utf-8') for path in configs.rglob('*.py')]
    names = re.findall(r'\{\{\$(\w+):', '\n'.join(texts))
    with pytest.MonkeyPatch.context() as patch:
        for name in set(names):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope='session')
def load_config():
    """Loads a config, by its path below configs/, once: copy to change it."""
    configs = Path(__file__).parents[1] / 'configs'
    return functools.cache(lambda path: Config.fromfile(configs / path))


@pytest.fixture(scope='session')
def build_network(load_config):
    """Builds a config's network, without values and once, by its path."""
    return functools.cache(lambda path: build_on_meta(load_config(path)))


@contextmanager
def keep_scopes():
    """Leaves no scope of the Runner behind."""
    scopes = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture(autouse=True, scope='module')
def _isolate_fixtures():
    """For what fixtures of a whole file set."""
    with keep_scopes():
        yield


@pytest.fixture(autouse=True)
def _isolate():
    """The same random numbers, and no scope left by a test."""
    torch.manual_seed(0)
    with keep_scopes():
        yield


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """A small data set of shapes, for any test that needs images on disk."""
    folder = tmp_path_factory.mktemp('shapes')
    return make_shapes(folder, num_train=16, num_val=4)


@pytest.fixture(scope='session')
def detector_run(shapes, tmp_path_factory):
    """Work dir of a detector trained for three epochs by ``train.py``.

    ``epoch_1.pth`` and ``epoch_2.pth`` have BA²M at full strength; in
    ``epoch_3.pth`` it is annealed to 0. Beside the weights are those that
    EMAHook averages. Tests that write into it copy it first.
    """
    pytest.importorskip('mmdet')
    base = 'faster-rcnn_ba2m-r18_fpn_shapes'
    return _train(base, shapes, tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='session')
def classifier_run(shapes, tmp_path_factory):
    """As :func:`detector_run`, of a classifier."""
    pytest.importorskip('mmpretrain')
    base = 'ba2m-resnet18_shapes'
    return _train(base, shapes, tmp_path_factory.mktemp('classifier'))


def _train(base, shapes, folder):
    config = folder / f'{base}.py'
    path = Path(__file__).parents[1] / f'configs/demo/{base}.py'
    config.write_text(f"""
_base_ = {str(path)!r}
train_cfg = dict(max_epochs=3)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=-1)
)
custom_hooks = [
    dict(type='EMAHook', momentum=0.1),
    dict(type='mmba2m.BA2MAnnealHook', begin=0.7, end=0.9),
]
""")
    run_tool(
        'train.py',
        config,
        '--work-dir',
        folder / 'run',
        '--auto-scale-lr',
        env={'SHAPES_ROOT': str(shapes)},
    )
    return folder / 'run'


@pytest.fixture
def group():
    """A process group of one."""
    distributed.init_process_group(
        'gloo', store=distributed.HashStore(), rank=0, world_size=1
    )
    yield
    leave_group()


@pytest.fixture
def assert_same_checkpoints():
    """Compares two checkpoints bit for bit, but for times and their names."""

    def flatten(value, name=''):
        if isinstance(value, HistoryBuffer):
            value = dict(enumerate(value.data))
        elif isinstance(value, (list, tuple)):
            value = dict(enumerate(value))
        if not isinstance(value, dict):
            return {name: value}
        return {
            key: leaf
            for child in value
            for key, leaf in flatten(value[child], f'{name}/{child}').items()
        }

    def load(path):
        checkpoint = load_checkpoint(path)
        scalars = checkpoint.pop('message_hub')['log_scalars']
        meta = checkpoint.pop('meta')
        scalars = {
            key: buffer.data
            for key, buffer in scalars.items()
            if not key.endswith(('/time', '/data_time', '/memory'))
        }
        meta = {key: meta[key] for key in ('epoch', 'iter', 'seed')}
        assert {'state_dict', 'optimizer', 'param_schedulers'} <= {*checkpoint}
        assert {'train/lr', 'train/loss'} <= {*scalars}
        return flatten(dict(checkpoint, meta=meta, scalars=scalars))

    def assert_same(path, other):
        one, two = load(path), load(other)
        assert one.keys() == two.keys()
        for key in one:
            same = np.array_equal(one[key], two[key])
            assert same, f'{key}: {one[key]}\n{two[key]}'

    return assert_same
