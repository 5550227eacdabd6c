"""What the Runner of our configs looks at, whoever starts it."""

import runpy
import shutil
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, RUNNERS
from PIL import Image
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


@contextmanager
def argv(*args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [str(arg) for arg in args])
        yield


@pytest.mark.slow
@pytest.mark.parametrize('host', mmba2m.HOSTS)
def test_the_tools_of_the_hosts_take_it(
    host, request, tmp_path, monkeypatch, shapes
):
    """Over a config of ours, without anything else of ours."""
    from tool_runs import isolate_mmengine

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
    cfg = Config.fromfile(config)
    assert cfg.runner_type == 'mmba2m.Runner'

    def call(tool, *args):
        path = str(tools / tool)
        with isolate_mmengine(), argv(path, config, *args):
            runpy.run_path(path, run_name='__main__')

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


# Errors of the data name the image, wherever it was loaded.


@DATASETS.register_module()
class Listed(BaseDataset):
    """Images of a list of (path, width, height)."""

    def load_data_list(self):
        return [
            dict(img_path=str(path), width=width, height=height)
            for path, width, height in self.metainfo['images']
        ]


def loader(images, scale=(32, 32), num_workers=0, wrap=None):
    dataset = dict(
        type='Listed',
        metainfo=dict(images=images),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=scale, keep_ratio=True),
        ],
    )
    return Runner.build_dataloader(
        dict(
            batch_size=2,
            num_workers=num_workers,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=wrap(dataset) if wrap else dataset,
        )
    )


@pytest.fixture
def image(tmp_path):
    def save(name, width, height, **kwargs):
        pixels = np.arange(width * height * 3) % 255
        pixels = pixels.reshape(height, width, 3).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **kwargs)
        return tmp_path / name, width, height

    return save


@pytest.mark.parametrize(
    ('num_workers', 'wrap'),
    [
        (0, None),
        (1, lambda data: dict(type='RepeatDataset', dataset=data, times=2)),
        (0, lambda data: dict(type='ConcatDataset', datasets=[data] * 2)),
    ],
)
def test_too_thin_image_is_named(image, num_workers, wrap):
    images = [image('fine.png', 40, 30), image('thin.png', 1, 4000)]
    with pytest.raises(RuntimeError, match=r'image \S+/thin\.png: .*resize'):
        list(loader(images, num_workers=num_workers, wrap=wrap))


def test_empty_file_is_named(image, tmp_path):
    (tmp_path / 'none.jpg').write_bytes(b'')
    images = [image('fine.png', 40, 30), (tmp_path / 'none.jpg', 40, 30)]
    with pytest.raises(RuntimeError, match=r'image \S+/none\.jpg: .*imdecode'):
        list(loader(images))


def test_error_that_names_the_image_stays_as_it_is(image):
    path, *size = image('half.jpg', 40, 30)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AssertionError) as caught:
        list(loader([(path, *size)]))
    assert str(caught.value) == f'failed to load image: {path}'


def test_whole_images_pass_without_a_word(image):
    images = [image('a.png', 40, 30), image('b.png', 30, 40)]
    images.append((*image('c.png', 9, 8)[:1], 0, 0))  # size not known
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        shapes = [item['img_shape'] for item in loader(images).dataset]
    assert shapes == [(24, 32), (32, 24), (28, 32)]


def test_image_of_another_size_than_its_annotation_is_named_once(image):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    images = [
        image('a.jpg', 40, 30),
        image('turned.jpg', 40, 30, exif=exif),
        image('again.jpg', 40, 30, exif=exif),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        shapes = [item['ori_shape'] for item in loader(images).dataset]
    assert shapes == [(30, 40), (40, 30), (40, 30)]
    (warning,) = caught
    assert 'turned.jpg is 30×40, but 40×30 in its' in str(warning.message)
