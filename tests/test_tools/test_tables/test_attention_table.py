import json
from pathlib import Path

import pytest

from mmba2m.inspect.pages import replace_section

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[3]
SE = 'configs/attention/se-resnet50_8xb32-90e_in1k.py'


@pytest.fixture
def tool(load_tools):
    return load_tools('tables')['attention_table']


@pytest.mark.slow
def test_the_page_is_what_the_tool_writes(tool):
    """If not: python tools/tables/attention_table.py."""
    page = (ROOT / 'docs/attention.md').read_text(encoding='utf-8')
    runs = tool.load_benchmarks(ROOT / 'docs/benchmarks')
    table = tool.format_table(tool.list_configs(), runs)
    assert page == replace_section(page, tool.BEGIN, table)


def test_rows_have_what_is_added_to_plain_resnet50(tool):
    _, _, plain, row = (
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in tool.format_table([SE], []).splitlines()
    )
    assert plain[4:] == ['25,557,032', '4,111.4', '0.0', '24.56']
    # C² / 8 + 17 / 16 · C, and two batch norms less than nothing
    widths = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    added = sum(c * c // 8 + c + c // 16 for c in widths)
    flops = sum(c * c / 8 for c in widths) / 1e6
    assert row[4:] == [f'+{added:,}', f'+{flops:.1f}', '0.0', '23.14']


def test_products_of_attention(tool):
    """Of each query with its keys, and of the weights with the values."""
    # at half the size, d / 2 = C / 32 channels
    maps = (28, 8), (14, 16), (7, 32), (4, 64)
    expected = sum(n**4 * 2 * channels for n, channels in maps)
    assert tool.count(tool.BA2M_CONFIG)[2] == expected / 1e6


def test_times_are_those_of_each_benchmark(tool, tmp_path):
    plain = dict(name=Path(tool.PLAIN).stem, seconds=[1, 2], ratio=[1, 1, 1])
    se = dict(name=Path(SE).stem, ratio=[1.2, 1.1, 1.5])
    for name, device, rows in (
        ('attention', 'a CPU', [plain, se]),
        ('attention_gpu', 'a GPU', [plain]),
    ):
        run = dict(device=device, network='bf16', environment='torch 2.0')
        run['measures'] = [dict(title='training step, 8 × 9×9', rows=rows)]
        (tmp_path / f'{name}.json').write_text(json.dumps(run))
    runs = tool.load_benchmarks(tmp_path)
    head, _, _, row, _, text, _, other = tool.format_table(
        [SE], runs
    ).splitlines()
    for found, (cpu, gpu) in (
        (head, ('training step, a CPU', 'training step, a GPU')),
        (row, ('1.200 (1.100–1.500)', '–')),
    ):
        cells = [cell.strip() for cell in found.split('|')]
        assert cells[-4:-2] == [cpu, gpu]
    assert text.startswith('On a CPU: training step, 8 × 9×9, bf16, relative')
    assert 'median of 2 rounds' in text and '(torch 2.0).' in text
    assert other.startswith('On a GPU: ')
