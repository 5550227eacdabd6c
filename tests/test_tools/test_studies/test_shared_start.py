import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmba2m.registry import HOOKS

pytest.importorskip('mmpretrain')


def test_networks_start_alike_where_they_are_alike(toy, study_tools):
    def start(seed, stages=(False,) * 4):
        cfg = Config.fromfile(toy.config)
        cfg.model.backbone.ba2m_stages = stages
        other = Config.fromfile(toy.config)
        return study_tools['shared_start'].draw_shared(cfg, other, seed)

    module = True, False, True, True
    plain = start(3)
    ours, again, other = start(3, module), start(3, module), start(4, module)
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
        seen = runner.__dict__.setdefault('batches', [])
        seen.append(torch.stack(list(data_batch['inputs'])))


@pytest.mark.slow
def test_networks_see_the_same_images(toy, study_tools, monkeypatch):
    monkeypatch.setenv('CIFAR10_ROOT', toy.draw().env['CIFAR10_ROOT'])
    options = {
        'custom_hooks': [dict(type='mmba2m._KeepBatchesHook')],
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 2,
    }
    study = study_tools['study'].load_study(toy.write(options=options))

    def train(variant, seed):
        work_dir = toy.work_dir(variant, seed)
        run = study_tools['run'].Run(
            study, study.variants[variant], seed, None, work_dir
        )
        runner = study_tools['one_run'].build(run, work_dir)
        runner.train()
        return torch.cat(runner.batches)

    images = train('plain', 1)
    assert images.shape == (12, 3, 32, 32)
    assert torch.equal(images, train('ba2m', 1))
    assert not torch.equal(images, train('plain', 2))
