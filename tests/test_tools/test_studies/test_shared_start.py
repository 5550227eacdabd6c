import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmba2m.registry import HOOKS
from mmba2m.engine.distributed import build_runner

pytest.importorskip('mmpretrain')


def test_networks_start_alike_where_they_are_alike(toy, tmp_path):
    def start(name, seed, *options):
        out = tmp_path / f'{name}.pth'
        toy.call(
            'tools/studies/shared_start.py',
            *(toy.config, toy.config, out, '--seed', seed),
            *('--cfg-options', f'randomness.seed={seed}', *options),
        )
        return torch.load(out)['state_dict']

    module = 'model.backbone.ba2m_stages=[True,False,True,True]'
    plain = start('plain', 3)
    ours = start('ours', 3, module)
    again = start('again', 3, module)
    other = start('other', 4, module)

    own = [key for key in ours if key not in plain]
    assert {key.split('.')[2] for key in own} == {'ba2m'}
    assert len({key.split('.')[1] for key in own}) == 3
    for key in plain:
        assert torch.equal(ours[key], plain[key]), key
    for key in ours:
        assert torch.equal(ours[key], again[key]), key
    drawn = [k for k in ours if ours[k].dim() > 1]
    assert any('ba2m' in key for key in drawn)
    for key in drawn:
        assert not torch.equal(ours[key], other[key]), key


@HOOKS.register_module()
class _KeepBatchesHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.batches.append(torch.stack(list(data_batch['inputs'])))


def test_networks_see_the_same_images(toy, tmp_path, monkeypatch):
    monkeypatch.setenv('TOY_ROOT', str(toy.folder / 'data'))

    def train(seed, stages):
        cfg = Config.fromfile(toy.config)
        cfg.work_dir = str(tmp_path / f'{seed}{sum(stages)}')
        cfg.launcher = 'none'
        cfg.randomness = dict(seed=seed)
        cfg.custom_hooks = [dict(type='mmba2m._KeepBatchesHook')]
        cfg.model.backbone.ba2m_stages = stages
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
        runner = build_runner(cfg)
        runner.batches = []
        runner.train()
        return torch.cat(runner.batches)

    plain, ours = train(1, [False] * 4), train(1, [True] * 4)
    assert plain.shape == (24, 3, 16, 16)
    assert torch.equal(plain, ours)
    assert not torch.equal(plain, train(2, [False] * 4))
