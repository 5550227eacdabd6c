from pathlib import Path

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[3]
PAGE = ROOT / 'docs/model_zoo.md'


@pytest.fixture
def paper_tables(load_tools):
    return load_tools('tables')['paper_tables']


@pytest.mark.slow
def test_the_page_is_what_the_tool_writes(paper_tables):
    """If not: python tools/tables/paper_tables.py."""
    tables = paper_tables.format_tables().strip()
    assert f'{paper_tables.BEGIN}\n\n{tables}\n\n' in PAGE.read_text('utf-8')


def test_some_tables_fast(paper_tables):
    for table, size in (('IV', (600, 1000)), ('VIII', (32, 32))):
        rows = paper_tables.load_rows()
        own = [row for row in rows if row['table'] == table]
        written = paper_tables.format_rows(own, [], size)
        assert own and written in PAGE.read_text('utf-8')


def test_comparison_with_the_paper(paper_tables):
    for *args, expected in (
        (24.2093, '24.21', 0, '24.21 / 24.21 ✓'),
        (24.2151, '24.21', 0, '24.22 / 24.21 (+0.01)'),
        (1.29, '1.3', 0, '1.29 / 1.3 ✓'),
        (27.756, '26.21', 0, '27.76 / 26.21 (+1.55)'),
        (4.305, '4.32', 0.01, '4.30 / 4.32 ✓'),
        (4.05, '4.32', 0.01, '4.05 / 4.32 (-0.27)'),
        (4.305, '', 0.01, '4.30 / –'),
        (None, '28.09', 0, '– / 28.09'),
        (None, '', 0, ''),
    ):
        assert paper_tables.compare(*args) == expected
    options = paper_tables.parse_options('a.b=[True,False] c=[x,y] d=4')
    assert options == {'a.b': [True, False], 'c': ['x', 'y'], 'd': 4}
    assert paper_tables.parse_options('') == {}
