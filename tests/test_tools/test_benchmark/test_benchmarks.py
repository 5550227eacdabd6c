"""The benchmarks run and write what they say; no test asserts a time."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmba2m.datasets import make_shapes

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def load_tool(name):
    path = ROOT / f'tools/analysis_tools/{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def backbone():
    return load_tool('benchmark_backbone')


@pytest.fixture
def run(backbone, monkeypatch, tmp_path, capsys):
    threads = torch.get_num_threads()
    monkeypatch.setattr(backbone, 'MIN_SAMPLE_SECONDS', 1e-3)

    def run(*args):
        argv = ['benchmark', *args, '--out-dir', str(tmp_path)]
        monkeypatch.setattr(sys, 'argv', list(map(str, argv)))
        backbone.main()
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)


def rows(table):
    lines = [line for line in table.splitlines() if line.startswith('|')]
    return [[c.strip() for c in line[1:-1].split('|')] for line in lines]


QUICK = ('--device', 'cpu', '--max-seconds', '0', '--threads', '1')


def test_networks_side_by_side(run, tmp_path):
    pytest.importorskip('mmpretrain')
    networks = ['plain', 'ba2m', 'ba2m_identity', 'stripped', 'se']
    output = run(
        *('--setting', 'cifar', '--shape', '2', '3', '16', '16'),
        *('--inference-batches', '1', '--networks', *networks),
        *('--backbone-options', 'base_channels=4', 'stem_channels=4'),
        *QUICK,
    )
    saved = json.loads((tmp_path / 'benchmark.json').read_text())
    train, inference = saved['measures']
    assert list(train['seconds']) == ['plain', 'ba2m', 'se']
    assert list(inference['seconds']) == networks
    assert train['shape'] == [2, 3, 16, 16]
    assert inference['shape'] == [1, 3, 16, 16]
    for measure in (train, inference):
        lengths = {len(times) for times in measure['seconds'].values()}
        assert len(lengths) == 1 and lengths.pop() >= 2
    # the memory of the converted network is the plain one's, byte for byte
    peak = inference['peak_bytes']
    assert peak['stripped'] == peak['plain'] < peak['ba2m']
    assert saved['parameters']['stripped'] == saved['parameters']['plain']
    assert saved['environment']['torch'] == torch.__version__
    assert saved['environment']['threads'] == 1

    table = (tmp_path / 'benchmark.md').read_text(encoding='utf-8')
    assert table in output
    labels = ['plain', 'BA²M', 'SE']
    assert [row[0] for row in rows(table)[2:5]] == labels
    picture = (tmp_path / 'benchmark.png').read_bytes()
    assert picture.startswith(b'\x89PNG')

    run('--report', tmp_path / 'benchmark.json')
    again = (tmp_path / 'benchmark.md').read_text(encoding='utf-8')
    assert again == table
    assert (tmp_path / 'benchmark.png').read_bytes() == picture


def test_the_table_holds_medians_of_paired_ratios(backbone, tmp_path):
    seconds = dict(plain=[1.0, 2.0, 4.0], se=[1.1, 2.4, 5.2])
    run = dict(
        backbone=dict(type='ResNet', depth=50, norm_eval=False),
        labels=dict(plain='plain', se='SE'),
        parameters=dict(plain=1000, se=2345),
        precision='bf16',
        channels_last=True,
        compile='module',
        optimizer=True,
        environment=dict(cpu='X', cores=2),
        measures=[
            dict(
                kind='train',
                shape=[8, 3, 224, 200],
                seconds=seconds,
                peak_bytes=dict(plain=2**30, se=1.25 * 2**30),
            )
        ],
    )
    backbone.write_report([run], tmp_path)
    text = (tmp_path / 'benchmark.md').read_text(encoding='utf-8')
    assert text.splitlines()[0] == (
        'ResNet-50, norm_eval=False, bf16, channels_last, torch.compile of '
        'the module, with SGD (cpu X, cores 2).'
    )
    head, _, plain, se = rows(text)
    assert head[0] == 'training step, 8 × 224×200 (3 rounds)'
    assert head[2] == 'time [s]'
    assert plain[1:] == ['1,000', '2', '1', '1024', '1']
    assert se[1:] == ['2,345', '2.4', '1.200 (1.100–1.300)', '1280', '1.250']


def test_scaling_of_the_module_alone(run, tmp_path):
    # smaller maps may cost more, as kernels copy their weights there
    output = run('--scaling', '1', '--sizes', '32', '64', *QUICK)
    saved = json.loads((tmp_path / 'scaling.json').read_text())
    assert saved['sizes'] == [32, 45, 64]
    curves = [(c['stage'], c['kind']) for c in saved['curves']]
    assert curves == [(1, 'train'), (1, 'inference')]
    for curve in saved['curves']:
        peaks = list(curve['peak_bytes'].values())
        assert peaks == sorted(peaks) and peaks[0] < peaks[-1]
    table = (tmp_path / 'scaling.md').read_text(encoding='utf-8')
    assert table in output
    assert rows(table)[0][1:] == ['32²', '45²', '64²', 'exponent']
    assert len(rows(table)) == 2 + 2 * len(curves)
    assert (tmp_path / 'scaling.png').read_bytes().startswith(b'\x89PNG')


def test_an_unknown_network_ends_it_at_once(run):
    with pytest.raises(ValueError, match="there is no network 'nothing'"):
        run('--networks', 'plain', 'nothing', *QUICK)


@pytest.fixture(scope='module')
def train():
    pytest.importorskip('mmdet')
    return load_tool('benchmark_train')


def test_a_block_of_iterations(train, tmp_path, monkeypatch):
    make_shapes(tmp_path / 'shapes', num_train=8, num_val=2)
    monkeypatch.setenv('SHAPES_ROOT', str(tmp_path / 'shapes'))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob('*'))
    options = [
        'train_dataloader.batch_size=1',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'model.backbone.base_channels=8',
        'model.neck.in_channels=[8,16,32,64]',
    ]
    block = train.run_block(str(DETECTOR), options, 1, 2)
    assert 0 < block['data_time'] < block['time']
    assert block['peak_bytes'] > 2**20
    assert set(tmp_path.rglob('*')) == before


def test_training_is_limited_to_its_iterations(train):
    cfg = Config.fromfile(DETECTOR)
    train.limit_training(cfg, 12)
    assert cfg.train_cfg.max_iters == 12
    assert cfg.default_hooks.checkpoint is None
    assert 'mmba2m.TerminateOnNaNHook' in str(cfg.default_hooks)
    for part in ('cfg', 'dataloader', 'evaluator'):
        assert f'val_{part}' not in cfg and f'test_{part}' not in cfg
    assert cfg.randomness.seed == 0
    assert cfg.visualizer.vis_backends == []


@pytest.mark.parametrize('randomness', [None, {}, dict(seed=3)])
def test_training_has_a_seed(train, randomness):
    cfg = Config(dict(train_cfg={}))
    if randomness is not None:
        cfg.randomness = randomness
    train.limit_training(cfg, 2)
    assert cfg.randomness.seed == (randomness or {}).get('seed', 0)


def test_blocks_are_compared_with_those_of_the_same_round(train):
    def block(time, peak):
        return dict(time=time, data_time=time / 10, peak_bytes=peak * 2**20)

    run = dict(
        blocks={
            'a': [block(0.1, 100), block(0.2, 110), block(0.4, 105)],
            'b x=1': [block(0.2, 90), block(0.3, 80), block(0.4, 70)],
        },
        options=['model.backbone.init_cfg=None'],
        iterations=50,
        warmup=10,
        environment=dict(cpu='X'),
    )
    text = train.format_table(run)
    assert text.splitlines()[0] == (
        '3 blocks of 50 iterations after 10 of warm-up, '
        'model.backbone.init_cfg=None (cpu X).'
    )
    _, _, first, second = rows(text)
    assert first == ['a', '5.000', '0.2000', '1', '0.0200', '110']
    ratio = '1.500 (1.000–2.000)'
    assert second == ['b x=1', '3.333', '0.3000', ratio, '0.0300', '90']


@pytest.mark.parametrize('measure', ['train', 'inference'])
def test_profile_of_the_modules(measure, monkeypatch, capsys):
    pytest.importorskip('mmpretrain')
    tool = load_tool('profile_attention')
    argv = ['profile', '--setting', 'cifar', '--measure', measure]
    argv += ['--batch', '2', '--rounds', '2', '--rows', '3']
    argv += ['--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', argv)
    tool.main()
    output = capsys.readouterr().out
    for stage, shape in enumerate(
        ['2×16×32×32', '2×32×16×16', '2×64×8×8', '2×128×4×4'], 1
    ):
        assert f'layer{stage}.ba2m, {shape}:' in output
    backward = 'convolution_backward' in output
    assert backward == (measure == 'train'), output
