"""The tools as a user calls them."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tool_runs import ROOT, run_tool

DETECTOR = 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'
# what a network that has hardly been trained does find
LOW = 'model.test_cfg.rcnn.score_thr=0.001'

TASKS = [
    pytest.param('detector_run', id='detector', marks=pytest.mark.slow),
    pytest.param('classifier_run', id='classifier'),
]


@pytest.fixture
def env(shapes):
    return dict(SHAPES_ROOT=str(shapes))


def run_test(run, work_dir, *args, **kwargs):
    args = (run / 'epoch_2.pth', '--work-dir', work_dir, *args)
    return run_tool('test.py', next(run.glob('*.py')), *args, **kwargs)


def metrics_of(work_dir):
    return json.loads(next(work_dir.glob('*/*.json')).read_text())


@pytest.mark.parametrize(
    'args, message',
    [
        (['test.py', DETECTOR, 'no.pth'], 'there is no checkpoint no.pth'),
        (
            ['train.py', DETECTOR, '--resume', 'no.pth'],
            'there is no checkpoint no.pth',
        ),
        (
            ['train.py', DETECTOR, '--cfg-options', 'load_from=no.pth'],
            'there is no checkpoint no.pth',
        ),
        (
            ['train.py', 'no.py'],
            "[Errno 2] No such file or directory: 'no.py'",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path, args, message):
    text = run_tool(*args, '--work-dir', tmp_path / 'run', fails=True)
    assert text.splitlines()[-1] == f'{args[0][:-3]}: {message}'
    assert 'Traceback' not in text
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_it_logs_no_more_than_the_host(shapes, tmp_path, monkeypatch):
    package = Path(pytest.importorskip('mmpretrain').__file__).parent
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    cfg = Config.fromfile(ROOT / 'configs/demo/ba2m-resnet18_shapes.py')
    for key in ('custom_imports', 'custom_hooks', 'runner_type'):
        cfg.pop(key, None)
    cfg.default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
    cfg.model.backbone.type = 'ResNet'
    del cfg.model.backbone['ba2m_cfg']
    cfg.train_cfg.max_epochs = 1
    config, logs = tmp_path / 'stock.py', []
    cfg.dump(config)
    train = os.path.relpath(package / '.mim/tools/train.py', ROOT / 'tools')
    for tool in (train, 'train.py'):
        work_dir = tmp_path / f'run{len(logs)}'
        run_tool(tool, config, '--work-dir', work_dir)
        text = next(work_dir.glob('*/*.log')).read_text()
        before, _, after = text.partition('Config:')
        # the config's own lines end where the next begins with the date
        rest = re.split(r'^(?=\d\d)', after, maxsplit=1, flags=re.M)[1]
        logs.append((before + rest).splitlines())
    host, ours = logs
    assert len(host) > 40 and len(ours) <= len(host)


@pytest.mark.parametrize('run', TASKS)
def test_resumed_training_ends_as_the_whole_one(
    request, run, env, tmp_path, assert_same_checkpoints
):
    run = request.getfixturevalue(run)
    shutil.copy(run / 'epoch_2.pth', tmp_path)
    args = ('--work-dir', tmp_path, '--resume', '--auto-scale-lr')
    text = run_tool('train.py', next(run.glob('*.py')), *args, env=env)
    assert 'resumed epoch: 2' in text
    assert_same_checkpoints(run / 'epoch_3.pth', tmp_path / 'epoch_3.pth')


@pytest.mark.slow
def test_a_head_that_draws_and_exchanges_resumes(
    classifier_run, env, tmp_path, assert_same_checkpoints
):
    option = 'model.head.type=mmba2m.BatchFormerClsHead'
    args = next(classifier_run.glob('*.py')), '--cfg-options', option
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    run_tool('train.py', *args, '--work-dir', whole, env=env)
    parts.mkdir()
    shutil.copy(whole / 'epoch_2.pth', parts)
    args = *args, '--work-dir', parts, '--resume'
    assert 'resumed epoch: 2' in run_tool('train.py', *args, env=env)
    assert_same_checkpoints(whole / 'epoch_3.pth', parts / 'epoch_3.pth')
    state = torch.load(parts / 'epoch_3.pth', weights_only=False)['state_dict']
    assert 'head.batch_former.encoder.linear1.weight' in state


@pytest.mark.slow
def test_train_scales_the_rate_and_logs_finite_losses(detector_run):
    path = next(detector_run.glob('*/vis_data/scalars.json'))
    lines = map(json.loads, path.read_text().splitlines())
    lines = [line for line in lines if 'loss' in line]
    assert len(lines) == 3 * 16 // 2
    assert all(torch.tensor(line['loss']).isfinite() for line in lines)
    # 7e-4 for a batch of 4, warmed up from a tenth, at a batch of 2
    assert lines[0]['lr'] == pytest.approx(7e-4 * 0.1 / 2, rel=1e-3)


@pytest.mark.parametrize('run', TASKS)
def test_it_is_tested_drawn_and_its_results_dumped(
    request, run, env, tmp_path
):
    detects, run = run == 'detector_run', request.getfixturevalue(run)
    out = tmp_path / 'out.pkl'
    drawn = 'drawn' if detects else tmp_path / 'run/drawn'
    low = ['--cfg-options', 'resume=True', *[LOW] * detects]
    args = ('--out', out, '--show-dir', drawn, *low)
    assert 'resumed epoch' not in run_test(run, tmp_path, *args, env=env)
    samples = pickle.loads(out.read_bytes())
    metrics = metrics_of(tmp_path)
    if detects:
        assert len(samples) == 4
        assert 0 <= metrics['coco/bbox_mAP_50'] <= 1
        assert len(list(tmp_path.glob('*/drawn/*.jpg'))) == 4
        return
    right = sum(
        sample['gt_label'].item() == sample['pred_score'].argmax().item()
        for sample in samples
    )
    assert metrics['accuracy/top1'] == pytest.approx(
        100 * right / len(samples)
    )
    assert list(drawn.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize('run', TASKS)
def test_test_time_augmentation_runs(request, run, env, tmp_path):
    run = request.getfixturevalue(run)
    low = ['--cfg-options', LOW] if 'mmdet' in str(run) else []
    run_test(run, tmp_path, '--tta', *low, env=env)
    metrics = metrics_of(tmp_path)
    for name in ('coco/bbox_mAP_50', 'accuracy/top1'):
        assert 0 <= metrics.get(name, 0) <= 100
