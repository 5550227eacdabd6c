"""The launch scripts as a user calls them, with processes on the CPU."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from launchers import DETECTOR, run, start
from tool_runs import run_tool

from mmba2m.datasets import make_shapes

# what a network that has hardly been trained does find
EVALUATION = [
    'model.test_cfg.rcnn.score_thr=0.001',
    'val_evaluator.metric_items=[mAP,AR@100]',
    'test_evaluator.metric_items=[mAP,AR@100]',
]


@pytest.fixture(scope='module')
def env(tmp_path_factory):
    shapes = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(shapes, num_train=8, num_val=5)
    names = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'CUDA_HOME')
    env = {k: v for k, v in os.environ.items() if k not in names}
    env |= dict(SHAPES_ROOT=str(shapes), PYTHON=sys.executable)
    return env | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='-1')


def metrics_of(work_dir):
    metrics = json.loads(next(work_dir.glob('*/*.json')).read_text())
    return {k: v for k, v in metrics.items() if 'bbox' in k}


@pytest.mark.slow
def test_two_processes_evaluate_as_one(env, tmp_path):
    # from elsewhere than the root, with a relative config
    run(
        *(env, 'dist_train.sh', os.path.relpath(DETECTOR, tmp_path), 2),
        *('--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=2'),
        *('train_cfg.val_interval=2', 'train_dataloader.batch_size=2'),
        *EVALUATION,
        cwd=tmp_path,
    )
    # 5 images: the last one goes to both processes, and counts once
    found = []
    for processes in (1, 2):
        work_dir = tmp_path / str(processes)
        args = ['--work-dir', work_dir, '--out', work_dir / 'out.pkl']
        args += ['--cfg-options', *EVALUATION]
        call = [DETECTOR, tmp_path / 'run/epoch_2.pth']
        if processes == 1:
            run_tool('test.py', *call, *args, env=env)
        else:
            run(env, 'dist_test.sh', *call, processes, *args)
        found.append(pickle.loads((work_dir / 'out.pkl').read_bytes()))
    one, two = ([sample['img_id'] for sample in samples] for samples in found)
    assert one == two and len(one) == 5
    for a, b in zip(*found, strict=True):
        assert len(a['pred_instances']['scores'])
        for key, value in a['pred_instances'].items():
            torch.testing.assert_close(b['pred_instances'][key], value)
    metrics = metrics_of(tmp_path / '1')
    assert metrics['coco/bbox_AR@100'] > 0
    assert metrics_of(tmp_path / '2') == metrics
    # and the validation at the end of the training was of this checkpoint
    lines = next(tmp_path.glob('run/*/vis_data/scalars.json')).read_text()
    last = json.loads(lines.splitlines()[-1])
    assert {key: last[key] for key in metrics} == metrics


PROBE = """
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class ProbeHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        boxes = [len(s.gt_instances) for s in data_batch['data_samples']]
        states = all_gather_object(
            dict(boxes=boxes, **runner.model.module.state_dict())
        )
        if is_main_process():
            torch.save(states, f'{runner.work_dir}/{runner.iter}.pth')
"""
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['mmba2m', 'probe'])
norm = dict(type='SyncBN')
model = dict(
    backbone=dict(norm_cfg=norm, ba2m_cfg=dict(norm_cfg=norm)),
    neck=dict(norm_cfg=norm),
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.5))
custom_hooks = [dict(type='ProbeHook')]
train_cfg = dict(max_epochs=2, val_interval=9)
train_dataloader = dict(
    batch_size=2,
    sampler=dict(shuffle=False),
    batch_sampler=None,
    dataset=dict(
        filter_cfg=dict(filter_empty_gt=False), ann_file={ann_file!r}
    ),
)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.mark.slow
def test_sync_bn_clipping_and_a_rank_without_boxes(env, tmp_path):
    # the second rank, which takes every other image, sees no box
    ann_file = next(Path(env['SHAPES_ROOT']).glob('coco/*/*train*.json'))
    content = json.loads(ann_file.read_text())
    empty = [image['id'] for image in content['images'][1::2]]
    content['annotations'] = [
        one for one in content['annotations'] if one['image_id'] not in empty
    ]
    ann_file = tmp_path / 'half.json'
    ann_file.write_text(json.dumps(content))
    (tmp_path / 'probe.py').write_text(PROBE)
    config = tmp_path / 'config.py'
    config.write_text(
        CONFIG.format(base=str(DETECTOR), ann_file=str(ann_file))
    )
    env = dict(env, PYTHONPATH=str(tmp_path))
    output = run(env, 'dist_train.sh', config, 2, '--work-dir', tmp_path)
    assert 'SyncBN needs GPUs' in output
    assert '(backbone.bn1, ' in output
    for i in range(4):
        first, second = torch.load(tmp_path / f'{i}.pth', weights_only=False)
        assert min(first.pop('boxes')) > 0
        assert second.pop('boxes') == [0, 0]
        for name, value in first.items():
            local = 'running_mean' in name or 'running_var' in name
            # the statistics of different images, the same weights
            assert torch.equal(value, second[name]) != local, name
    normalizers = [name for name in first if 'running_normalizer' in name]
    assert len(normalizers) == 3
    assert all(first[name] > 0 for name in normalizers)


def start_two_ranks(env, work_dir):
    """Starts a training and waits for its first iteration."""
    process = start(
        *(env, 'dist_train.sh', DETECTOR, 2, '--work-dir', work_dir),
        *('--cfg-options', 'train_cfg.max_epochs=1000'),
        *('train_dataloader.batch_size=1', 'default_hooks.logger.interval=1'),
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if 'Epoch(train)' in line:
            break
    ranks = subprocess.run(
        ['pgrep', '-P', str(process.pid), '-f', 'train.py'],
        capture_output=True,
        check=False,
    ).stdout
    return process, [int(rank) for rank in ranks.split()], ''.join(lines)


@pytest.mark.slow
def test_death_of_a_rank_ends_the_run(env, tmp_path):
    for _ in range(3):
        process, ranks, output = start_two_ranks(env, tmp_path)
        if ranks:
            break
        # seen once, not understood: perhaps a port that was taken. It is not
        # what this test is about, but must not pass without a word
        warnings.warn(f'a launch ended early: {output[-3000:]}', stacklevel=1)
    assert len(ranks) == 2, output[-3000:]
    os.kill(ranks[1], signal.SIGKILL)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert 'tools/train.py FAILED' in output
    assert f'Signal 9 (SIGKILL) received by PID {ranks[1]}' in output
    time.sleep(1)
    for rank in ranks:
        with pytest.raises(ProcessLookupError):
            os.kill(rank, 0)


@pytest.mark.slow
def test_error_of_the_first_rank_ends_the_others(env, tmp_path):
    # only rank 0 looks at the data, rank 1 waits for it
    env = dict(env, SHAPES_ROOT='nowhere')
    args = (DETECTOR, 2, '--work-dir', tmp_path)
    output = run(env, 'dist_train.sh', *args, code=1)
    summary = output[output.index('tools/train.py FAILED') :]
    # the cause is in torchrun's last words
    assert "data_root 'nowhere/coco' is no folder" in summary
