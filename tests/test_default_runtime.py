"""What every config has: where it logs, and what it draws at test time."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import VISUALIZERS, DefaultScope
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

import mmba2m

CONFIGS = Path(__file__).parent.parent / 'configs'
BASES = dict(mmdet='default_runtime.py', mmpretrain='default_runtime_cls.py')


@pytest.fixture(params=mmba2m.HOSTS)
def runtime(request):
    cfg = Config.fromfile(CONFIGS / '_base_' / BASES[request.param])
    assert cfg.default_scope == request.param
    return cfg


def test_tensorboard_and_the_hook_are_on(runtime):
    backends = [backend.type for backend in runtime.visualizer.vis_backends]
    assert backends == ['LocalVisBackend', 'TensorboardVisBackend']
    hook = runtime.default_hooks.ba2m_logger
    assert hook == dict(type='mmba2m.BA2MLoggerHook')


def test_pictures_with_a_folder_of_their_own_fill_no_event_file(
    runtime, tmp_path
):
    """As with --show-dir of tools/test.py."""
    settings = dict(
        runtime.visualizer, name=str(tmp_path), save_dir=str(tmp_path)
    )
    with DefaultScope.overwrite_default_scope(runtime.default_scope):
        visualizer = VISUALIZERS.build(settings)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    arguments = dict(image=image, out_file=str(tmp_path / 'drawn.png'))
    if runtime.default_scope == 'mmdet':
        from mmdet.structures import DetDataSample

        visualizer.add_datasample(
            'x', data_sample=DetDataSample(), **arguments
        )
    else:
        from mmpretrain.structures import DataSample

        visualizer.visualize_cls(data_sample=DataSample(), **arguments)
    visualizer.add_scalar('seen', 1.0)  # its backends work
    visualizer.close()
    assert (tmp_path / 'drawn.png').stat().st_size > 0
    assert not list(tmp_path.rglob('vis_image'))
    (events,) = tmp_path.rglob('events.*')
    tags = EventAccumulator(str(events)).Reload().Tags()
    assert tags['scalars'] == ['seen']
    assert tags['images'] == []
