"""The tools on MMEngine's Python configs, with classes for types."""

import json

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS
from new_style import write_new_style
from tool_runs import isolate_mmengine, run_tool

from mmba2m import HOSTS
from mmba2m.config_files import read_config
from mmba2m.data_checks.command import main as check

NAMES = dict(
    mmdet='faster-rcnn_ba2m-r18_fpn_shapes', mmpretrain='ba2m-resnet18_shapes'
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', params=HOSTS)
def trained(request, shapes, tmp_path_factory):
    """A config of the new style, a checkpoint of it, and what was said."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES_ROOT', str(shapes))
        cfg = read_config(f'mmba2m::{NAMES[request.param]}')
    cfg.train_cfg.max_epochs = 1
    cfg.custom_hooks = [dict(type='mmba2m.BA2MAnnealHook', begin=0, end=0.5)]
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False)
    if request.param == 'mmpretrain':  # which adds it by its name
        cfg.model.data_preprocessor.type = 'ClsDataPreprocessor'
    path = write_new_style(cfg, folder)
    run_tool('train.py', path, '--work-dir', folder / 'run')
    return path, folder / 'run/epoch_1.pth'


def test_it_tests_with_flips(trained, tmp_path):
    out = tmp_path / 'out.pkl'
    args = ['--work-dir', tmp_path, '--out', out, '--tta']
    text = run_tool('test.py', *trained, *args)
    assert out.is_file() and ('bbox_mAP' in text or 'top1' in text)


def test_the_demo_takes_config_or_checkpoint(trained, shapes, tmp_path):
    found = []
    images = shapes / 'imagefolder/val'
    for i, model in enumerate([trained, trained[1:]]):
        out = ['--out-dir', tmp_path / str(i), '--score-thr', 0]
        run_tool('image_demo.py', images, *model, *out)
        found.append(
            json.loads((tmp_path / f'{i}/predictions.json').read_text())
        )
    assert found[0] == found[1] and found[0]['results'][0]['predictions']


def test_it_strips_and_starts(trained, tmp_path):
    path, checkpoint = trained
    plain, start = tmp_path / 'plain.pth', tmp_path / 'start.pth'
    for args in ([], ['--config', path]):
        text = run_tool(
            'model_converters/strip_ba2m.py', checkpoint, plain, *args
        )
        assert 'BA2MResNet → ResNet\n' in text
        assert 'ba2m' not in plain.with_suffix('.py').read_text()
        tool = 'model_converters/resnet_to_ba2m.py'
        text = run_tool(tool, plain, start, '--config', path)
        assert 'new: layer1.ba2m' in text
        for written in (plain, plain.with_suffix('.py'), start):
            written.unlink()


def test_its_data_are_checked(trained, capsys):
    assert check([str(trained[0])]) == 0
    text = capsys.readouterr().out
    assert '0 errors' in text and 'circle: ' in text


def test_a_hosts_own_tool_runs_it_with_our_runner(trained, tmp_path):
    """Which gets the classes themselves."""
    cfg = Config.fromfile(trained[0])
    assert not isinstance(cfg.model.backbone.type, str)
    cfg.work_dir, cfg.load_from = str(tmp_path), str(trained[1])
    cfg.runner_type = 'mmba2m.Runner'
    with isolate_mmengine():
        assert RUNNERS.build(cfg).test()
