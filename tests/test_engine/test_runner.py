"""What the Runner of our configs looks at, whoever starts it."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
import toy_training
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from tool_runs import isolate_mmengine
from torch import nn

import mmba2m
from mmba2m.checkpoints import files
from mmba2m.engine import hooks

CONFIGS = Path(__file__).parents[2] / 'configs'


@MODELS.register_module('RunnerTestNet')
class Net(BaseModel):
    built = 0

    def __init__(self, width=2, init_cfg=None):
        type(self).built += 1
        super().__init__(init_cfg=init_cfg)
        self.backbone = nn.Sequential(nn.Linear(1, width))
        self.head = nn.Linear(width, 1)

    def forward(self, x, mode='tensor'):
        x = self.head(self.backbone(torch.stack(x)))
        return dict(loss=x.square().mean()) if mode == 'loss' else [x]


@pytest.fixture
def run(run):
    def build(**changes):
        Net.built = 0
        model = changes.pop('model', dict(type='RunnerTestNet'))
        return run(model=model, **changes)

    build.reads = run.reads
    return build


def test_a_checkpoint_is_read_once_and_a_network_built_once(run, tmp_path):
    run(resume=True).train()  # there is nothing yet
    assert (run.reads, Net.built) == ([], 1)
    assert (tmp_path / '.lock-owner').exists()
    run(train_cfg=dict(by_epoch=True, max_epochs=3), resume=True).train()
    assert (run.reads, Net.built) == (['epoch_2.pth'], 1)
    path = str(tmp_path / 'epoch_3.pth')
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:-99])  # cannot be read, is passed over
    run(resume=True).load_or_resume()
    assert (run.reads, Net.built) == (['epoch_3.pth', 'epoch_2.pth'], 1)
    Path(path).write_bytes(whole)
    run(load_from=path).test()
    assert (run.reads, Net.built) == (['epoch_3.pth'], 1)
    run(load_from=path).train()
    assert (run.reads, Net.built) == (['epoch_3.pth'], 1)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    run(model=dict(type='RunnerTestNet', init_cfg=init_cfg)).train()
    assert (run.reads, Net.built) == (['epoch_3.pth'], 1)
    assert not files._read


def test_what_does_not_fit_is_refused(run, tmp_path):
    run().train()
    wide = dict(type='RunnerTestNet', width=3)
    path = str(tmp_path / 'epoch_2.pth')
    another = 'checkpoint of another network than the config: of its weights'
    for settings in (dict(load_from=path), dict(resume=True)):
        with pytest.raises(ValueError, match=another):
            run(model=wide, **settings).train()
    with pytest.raises(ValueError, match=another):
        run(model=wide, load_from=path).test()
    # a start from another task may have another head, an evaluation not
    checkpoint = files.load_checkpoint(path)
    checkpoint['state_dict']['head.weight'] = torch.zeros(5, 2)
    torch.save(checkpoint, tmp_path / 'task.pth')
    start = dict(load_from=str(tmp_path / 'task.pth'))
    run(**start).train()
    for method, resume in (('train', True), ('test', False)):
        with pytest.raises(ValueError, match=another):
            getattr(run(resume=resume, **start), method)()
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='neck.')
    with pytest.raises(ValueError, match='init_cfg loads 0 of 4'):
        run(model=dict(type='RunnerTestNet', init_cfg=init_cfg)).train()


def test_a_config_in_meta_never_runs(run, tmp_path):
    run().train()
    path = str(tmp_path / 'epoch_1.pth')
    checkpoint = files.load_checkpoint(path)
    proof = tmp_path / 'proof'
    checkpoint['meta']['config'] = f'open({str(proof)!r}, "w")'
    files.save_checkpoint(checkpoint, path)
    run(load_from=path, resume=True).train()
    assert not proof.exists()
    checkpoint['meta'].pop('iter')
    files.save_checkpoint(checkpoint, path)
    with pytest.raises(ValueError, match=r'epoch_1\.pth is of no training to'):
        run(load_from=path, resume=True).train()


def test_classes_in_another_order_are_refused(run, tmp_path, monkeypatch):
    loader = toy_training.make_loader(dict(type='EngineTestData', shape=(1,)))
    data = toy_training.Ramp
    monkeypatch.setattr(data, 'metainfo', dict(classes='ab'), raising=False)
    path = dict(load_from=str(tmp_path / 'epoch_2.pth'))

    def start(classes, **settings):
        data.metainfo = dict(classes=classes)
        return run(train_dataloader=loader, test_dataloader=loader, **settings)

    start(('a', 'b')).train()
    for kind, settings in (('train', dict(resume=True)), ('train', path)):
        with pytest.raises(ValueError, match='learnt the classes a, b, but'):
            getattr(start(('b', 'a'), **settings), kind)()
    with pytest.raises(ValueError, match='learnt the classes a, b, but'):
        start(('b', 'a'), **path).test()
    start(('b', 'c'), **path).train()  # another task


def test_a_test_that_finds_nothing_is_an_error(run, tmp_path):
    assert run().test() == dict(score=1)
    nothing = dict(type='EngineTestScores', scores=[{}])
    with pytest.raises(RuntimeError, match='the model found nothing'):
        run(test_evaluator=nothing).test()


@pytest.mark.parametrize('base', ['default_runtime', 'default_runtime_cls'])
def test_the_configs_name_it_and_the_hooks(base):
    cfg = Config.fromfile(f'{CONFIGS}/_base_/{base}.py')
    assert cfg.runner_type == 'mmba2m.Runner'
    every = [HOOKS.build(dict(hook)) for hook in cfg.default_hooks.values()]
    ours = {type(hook).__name__ for hook in every} & set(hooks.__all__)
    # these are for who asks for them
    assert ours == set(hooks.__all__) - {'BA2MAnnealHook', 'ChannelsLastHook'}


@pytest.mark.slow
@pytest.mark.parametrize('host', mmba2m.HOSTS)
def test_the_tools_of_the_hosts_take_it(
    host, request, tmp_path, monkeypatch, shapes
):
    """Over a config of ours, without anything else of ours."""
    run = request.getfixturevalue(
        dict(mmdet='detector_run', mmpretrain='classifier_run')[host]
    )
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    tools = Path(sys.modules[host].__file__).parent / '.mim/tools'
    config = next(run.glob('*.py'))
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    for epoch in (1, 2):
        shutil.copy(run / f'epoch_{epoch}.pth', work_dir)
    newest = work_dir / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-99])

    def call(tool, *args):
        argv = [str(arg) for arg in (tools / tool, config, *args)]
        with isolate_mmengine(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', argv)
            runpy.run_path(argv[0], run_name='__main__')

    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    call('train.py', '--work-dir', work_dir, '--resume', *options)
    assert files.load_checkpoint(newest)['meta']['epoch'] == 2
    with pytest.raises((FileNotFoundError, ValueError), match='nowhere'):
        call(
            'train.py',
            *('--work-dir', tmp_path / 'other', '--cfg-options'),
            'train_dataloader.dataset.data_root=nowhere',
        )
    torch.save(dict(state_dict={}, meta=print), tmp_path / 'stranger.pth')
    with pytest.raises(Exception, match='holds print'):
        call('test.py', tmp_path / 'stranger.pth', '--work-dir', tmp_path)
