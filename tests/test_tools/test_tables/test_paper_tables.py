import re
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


def read_page():
    """Table, network, parameters and FLOPs of each row of the page."""
    for section in PAGE.read_text('utf-8').split('\n## Table ')[1:]:
        table = section.partition(':')[0]
        for line in re.findall(r'^\| (.*) \|$', section, re.M)[1:]:
            cells = [cell.strip() for cell in line.split('|')]
            yield table, cells[0], *cells[2:4]


def test_all_tables_are_there_in_order(paper_tables):
    numerals = 'I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI'
    assert ' '.join(dict.fromkeys(row[0] for row in read_page())) == numerals
    rows = paper_tables.load_rows()
    assert [row['table'] for row in rows] == [row[0] for row in read_page()]
    for table, size in (('IV', (600, 1000)), ('VIII', (32, 32))):
        own = [row for row in rows if row['table'] == table]
        written = paper_tables.format_rows(own, [], size)
        assert written in PAGE.read_text('utf-8')


def test_rows_without_a_note_have_the_papers_counts():
    differ = set()
    for table, network, *counts in read_page():
        noted = re.search(r'\(\d+\)$', network)
        for kind, cell in zip(('params', 'FLOPs'), counts, strict=True):
            compared = cell and '–' not in cell
            if compared and '✓' not in cell and not noted:
                differ.add((table, network, kind))
    bam = {('VI', 'BAM', 'params'), ('XI', 'ResNet-50 + BAM', 'params')}
    both = {('VI', f'{name} + BA²M', 'params') for name in ('SE', 'BAM')}
    both |= {('VI', 'CBAM + BA²M', kind) for kind in ('params', 'FLOPs')}
    assert differ == bam | both | {('X', 'DenseNet-100', 'FLOPs')}


def test_every_config_of_the_papers_data_sets_has_a_row(paper_tables):
    listed = {row['config'] for row in paper_tables.load_rows()}
    # the paper has no RetinaNet on COCO, no masks on VOC, and fewer attention
    # modules
    beyond = ('_base_', '/retinanet/', 'pascal_voc/mask-rcnn', 'attention/')
    for path in (ROOT / 'configs').rglob('*.py'):
        name = path.relative_to(ROOT).as_posix()
        if path.stem.endswith(('_coco', '_voc0712', '_in1k', '_cifar100')):
            assert name in listed or any(b in name for b in beyond), name


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
