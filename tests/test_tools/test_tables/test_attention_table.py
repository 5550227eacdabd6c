import importlib.util
import json
from pathlib import Path

import pytest
from torch import nn

from mmba2m.inspect.pages import replace_section

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[2]
SE = 'configs/attention/se-resnet50_8xb32-90e_in1k.py'


@pytest.fixture(autouse=True)
def _leave_weights_uninitialised(monkeypatch):
    """Counting needs no values, and drawing them takes most of the time."""
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/tables/attention_table.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


def make_run(tool, **kwargs):
    seconds = {
        f'elsewhere/{tool.PLAIN}': [1, 2, 4],
        SE: [1.5, 2.2, 4.8],  # ratios 1.5, 1.1, 1.2
        'SGE': [9, 9, 9],
    }
    run = dict(
        precision='fp32',
        channels_last=False,
        compile=None,
        optimizer=False,
        environment=dict(cpu='of a test'),
        measures=[
            dict(kind='inference', shape=[1, 3, 224, 224], seconds={}),
            dict(kind='train', shape=[8, 3, 224, 224], seconds=seconds),
        ],
    )
    return {**run, **kwargs}


def test_the_page_is_what_the_tool_writes(tool):
    """If not: python tools/tables/attention_table.py."""
    page = (ROOT / 'docs/attention.md').read_text(encoding='utf-8')
    runs = tool.load_benchmarks(ROOT / 'docs/benchmarks')
    table = tool.format_table(tool.list_configs(), runs)
    assert page == replace_section(page, tool.BEGIN, table)


def test_rows_have_what_is_added_to_plain_resnet50(tool):
    head, _, plain, row = tool.format_table([SE], []).splitlines()[:4]
    assert '| 25,557,032 | 4,111.4 | 1 | 24.56 |' in plain
    # C² / 8 + 17 / 16 · C, and two batch norms less than nothing
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    added = sum(c * c // 8 + c + c // 16 for c in widths)
    flops = sum(c * c / 8 for c in widths) / 1e6
    assert row.endswith(f'| +{added:,} | +{flops:.1f} | – | 23.14 |')
    assert row.count('|') == head.count('|') == plain.count('|') == 9


def test_times_are_ratios_within_each_round(tool, tmp_path):
    cpu = dict(cpu='of a test')
    for name, environment in (
        ('attention', cpu),
        ('attention_gpu', dict(cpu, gpu='GPU')),
    ):
        run = make_run(tool, environment=environment)
        (tmp_path / f'{name}.json').write_text(json.dumps(run))
    (tmp_path / 'other.json').write_text('{}')
    runs = tool.load_benchmarks(tmp_path)
    table = tool.format_table([tool.BA2M_CONFIG, SE], runs)
    head, _, plain, ours, row = table.splitlines()[:5]
    assert '| training step, of a test | training step, GPU |' in head
    assert '| 1 | 1 | 24.56 |' in plain
    assert '| – | – | 21.63 |' in ours
    time = '1.200 (1.100–1.500)'
    assert f'| {time} | {time} | 23.14 |' in row
    assert 'training step, 8 × 224×224, fp32' in table
    assert 'median and range of 3 rounds' in table
    assert 'cpu of a test' in table


@pytest.mark.parametrize('measures', [[], None])
def test_a_benchmark_of_something_else_is_refused(tool, tmp_path, measures):
    run = make_run(tool)
    if measures is None:
        seconds = run['measures'][1]['seconds']
        run['measures'][1]['seconds'] = {'SGE': seconds['SGE']}
        message = 'attention.json: the first network is SGE, not configs'
    else:
        run['measures'] = measures
        message = r'attention.json has no training steps'
    (tmp_path / 'attention.json').write_text(json.dumps(run))
    with pytest.raises(ValueError, match=message):
        tool.load_benchmarks(tmp_path)


def test_places_and_options(tool):
    def describe(name):
        path = f'{tool.FOLDER}/{name}-resnet50_8xb32-90e_in1k.py'
        cls, options, where = tool.describe(path)
        return cls.__name__, options, where

    assert describe('bam') == ('BAM', {}, '`after_stage`, stages 1–3')
    assert describe('eca') == ('ECA', {}, '`residual`, stages 1–4')
    assert describe('aa') == (
        'AAConv2d',
        dict(map_size=(28, 14, 7)),
        '`conv2`, stages 2–4',
    )
    cls, options, where = tool.describe(tool.BA2M_CONFIG)
    assert (cls.__name__, options) == ('BA2M', dict(reduction=16))
    assert where == '`after_stage`, stages 1–4'


def test_products_of_attention(tool):
    """Of each query with its keys, and of the weights with the values."""
    # blocks, positions, value channels; 160 key channels, and as many for
    # an embedding of each row and column
    stages = [(4, 28 * 28, 8), (6, 14 * 14, 24), (3, 7 * 7, 48)]
    expected = sum(
        blocks * n * (n * (160 + values) + 2 * round(n**0.5) * 160)
        for blocks, n, values in stages
    )
    path = f'{tool.FOLDER}/aa-resnet50_8xb32-90e_in1k.py'
    assert tool.count_products(path) == expected

    # 7×7 keys and as many values, and embeddings of 7 rows and 7 columns for
    # half of the channels each; strides come after
    stages = [(3, 56, 56, 64), (4, 28, 56, 128), (6, 14, 28, 256)]
    expected = sum(
        ((blocks - 1) * size**2 + first**2) * width * (49 + 49 + 7)
        for blocks, size, first, width in [*stages, (3, 7, 14, 512)]
    )
    path = f'{tool.FOLDER}/sasa-resnet50_8xb32-90e_in1k.py'
    assert tool.count_products(path) == expected

    # at half the size, d / 2 = C / 32 channels
    expected = sum(
        (n * n) ** 2 * 2 * channels
        for n, channels in ((28, 8), (14, 16), (7, 32), (4, 64))
    )
    assert tool.count_products(tool.BA2M_CONFIG) == expected
