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
class _KeepStartHook(Hook):
    def before_train(self, runner):
        runner.start = {
            key: value.clone()
            for key, value in runner.model.state_dict().items()
        }

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        seen = runner.__dict__.setdefault('batches', [])
        seen.append(torch.stack(list(data_batch['inputs'])))


@pytest.mark.slow
def test_networks_start_alike_and_see_the_same_images(
    toy, study_tools, monkeypatch
):
    monkeypatch.setenv(*toy.draw().env.copy().popitem())
    module = study_tools['one_run']
    options = {
        'custom_hooks': [dict(type='mmba2m._KeepStartHook')],
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 2,
    }

    def train(variant, seed):
        study = study_tools['study'].load_study(toy.write(options=options))
        work_dir = toy.work_dir(variant, seed)
        work_dir.mkdir(parents=True)
        run = study_tools['run'].Run(
            study, study.variants[variant], seed, None, work_dir
        )
        start = module._save_start(run)
        runner = module.build(run, work_dir, load_from=start)
        runner.train()
        return runner.start, torch.cat(runner.batches)

    (plain, images), (ours, same) = train('plain', 1), train('ba2m', 1)
    for key in plain:
        assert torch.equal(ours[key], plain[key]), key
    assert images.shape == (12, 3, 32, 32)
    assert torch.equal(images, same)
    assert not torch.equal(images, train('plain', 2)[1])
