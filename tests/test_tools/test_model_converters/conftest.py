import runpy
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmba2m import HOSTS
from mmba2m.datasets import make_shapes

ROOT = Path(__file__).parents[3]
DEMOS = dict(
    mmdet='configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py',
    mmpretrain='configs/demo/ba2m-resnet18_shapes.py',
)


@pytest.fixture
def convert(capsys):
    """Runs a tool as on the command line; how it ends, as text."""

    def convert(tool, *args):
        tool = runpy.run_path(f'{ROOT}/tools/model_converters/{tool}.py')
        try:
            tool['main']([str(arg) for arg in args])
        except SystemExit as error:
            return error.code
        return capsys.readouterr().out

    return convert


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('converters') / 'shapes'
    return make_shapes(folder, num_train=4, num_val=2)


@pytest.fixture(scope='session', params=HOSTS)
def trained(request, shapes, tmp_path_factory):
    """A demo after a few iterations, the last ones without BA²M."""
    host = request.param
    work_dir = tmp_path_factory.mktemp(host)
    scopes = dict(DefaultScope._instance_dict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES_ROOT', str(shapes))
        cfg = Config.fromfile(ROOT / DEMOS[host])
    cfg.merge_from_dict(
        dict(
            train_cfg=dict(max_epochs=2),
            train_dataloader=dict(
                batch_size=2, num_workers=0, persistent_workers=False
            ),
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
            work_dir=str(work_dir),
            experiment_name=f'converters_{host}',
            log_level='ERROR',
            custom_hooks=[
                dict(type='EMAHook', momentum=0.1),
                dict(type='mmba2m.BA2MAnnealHook', begin=0, end=0.5),
            ],
        )
    )
    cfg.default_hooks.checkpoint.save_best = None
    Runner.from_cfg(cfg).train()
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)
    return host, work_dir / 'epoch_2.pth'


@pytest.fixture
def checkpoint(trained, tmp_path):
    """The checkpoint of :func:`trained`, where files may be added."""
    return Path(shutil.copy(trained[1], tmp_path / 'annealed.pth'))
