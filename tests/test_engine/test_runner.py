"""What the Runner of our configs looks at, whoever starts it."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, RUNNERS
from tool_runs import isolate_mmengine
from torch import nn

import mmba2m
from mmba2m.checkpoints import files
from mmba2m.engine.runner import Runner

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


@DATASETS.register_module('RunnerTestData')
class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(x=torch.ones(1) * index)


@METRICS.register_module('RunnerTestMetric')
class Found(BaseMetric):
    """Of which something, or nothing, comes out."""

    def __init__(self, **metrics):
        super().__init__()
        self.metrics = metrics

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return self.metrics


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Builds a runner as launchers do; counts what is read and built."""
    reads = []
    safe_load = files.safe_load
    monkeypatch.setattr(
        files,
        'safe_load',
        lambda path, where: (
            reads.append(Path(path).name) or safe_load(path, where)
        ),
    )
    loader = dict(
        dataset=dict(type='RunnerTestData'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
        num_workers=0,
    )

    def build(**changes):
        reads.clear()
        Net.built = 0
        settings = dict(
            runner_type='mmba2m.Runner',
            model=dict(type='RunnerTestNet'),
            work_dir=str(tmp_path),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(type='RunnerTestMetric', score=1),
            default_scope='mmengine',
            experiment_name=f'{tmp_path.name}_{len(list(tmp_path.iterdir()))}',
        )
        runner = RUNNERS.build(dict(settings, **changes))
        assert type(runner) is Runner
        return runner

    build.reads = reads
    return build


def test_a_checkpoint_is_read_once_and_a_network_built_once(run, tmp_path):
    run().train()
    assert (run.reads, Net.built) == ([], 1)
    run(train_cfg=dict(by_epoch=True, max_epochs=3), resume=True).train()
    assert (run.reads, Net.built) == (['epoch_2.pth'], 1)
    path = str(tmp_path / 'epoch_3.pth')
    run(load_from=path).test()
    assert (run.reads, Net.built) == (['epoch_3.pth'], 1)
    run(load_from=path).train()
    assert (run.reads, Net.built) == (['epoch_3.pth'], 1)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    runner = run(model=dict(type='RunnerTestNet', init_cfg=init_cfg))
    runner.train()
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
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['state_dict']['head.weight'] = torch.zeros(5, 2)
    torch.save(checkpoint, tmp_path / 'task.pth')
    start = dict(load_from=str(tmp_path / 'task.pth'))
    run(**start).train()
    for settings in (dict(start, resume=True), start):
        runner = run(**settings)
        with pytest.raises(ValueError, match=another):
            (runner.train if 'resume' in settings else runner.test)()
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='neck.')
    with pytest.raises(ValueError, match='init_cfg loads 0 of 4'):
        run(model=dict(type='RunnerTestNet', init_cfg=init_cfg)).train()


def test_resume_passes_over_what_cannot_be_read(run, tmp_path):
    run().train()
    newest = tmp_path / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-99])
    runner = run(resume=True)
    runner.load_or_resume = lambda load=runner.load_or_resume: (
        load(),
        setattr(runner, 'resumed', runner.epoch),
    )
    runner.train()
    assert runner.resumed == 1
    assert run.reads == ['epoch_2.pth', 'epoch_1.pth']


def test_a_first_start_that_is_to_resume_begins_anew(run):
    assert run(resume=True).train() is not None
    assert run.reads == []


def test_a_test_that_finds_nothing_is_an_error(run, tmp_path):
    assert run().test() == dict(score=1)
    with pytest.raises(RuntimeError, match='the model found nothing'):
        run(test_evaluator=dict(type='RunnerTestMetric')).test()


@pytest.mark.parametrize('base', ['default_runtime', 'default_runtime_cls'])
def test_the_configs_name_it_and_the_hooks(base):
    cfg = Config.fromfile(f'{CONFIGS}/_base_/{base}.py')
    assert cfg.runner_type == 'mmba2m.Runner'
    assert [
        type(HOOKS.build(dict(hook))).__name__
        for hook in cfg.default_hooks.values()
        if hook.type.startswith('mmba2m.')
    ] == [
        'AtomicCheckpointHook',
        'TerminateOnNaNHook',
        'TrainingChecksHook',
        'RandomStateHook',
        'ResumeValHook',
        'BA2MLoggerHook',
    ]


@pytest.mark.slow
@pytest.mark.parametrize('host', mmba2m.HOSTS)
def test_the_tools_of_the_hosts_take_it(
    host, request, tmp_path, monkeypatch, shapes
):
    """Over a config of ours, without anything else of ours."""
    task = dict(mmdet='detector', mmpretrain='classifier')[host]
    run = request.getfixturevalue(f'{task}_run')
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
