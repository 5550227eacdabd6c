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


def test_some_tables_fast(paper_tables):
    for table, size in (('IV', (600, 1000)), ('VIII', (32, 32))):
        rows = paper_tables.load_rows()
        own = [row for row in rows if row['table'] == table]
        written = paper_tables.format_rows(own, [], size)
        assert own and written in PAGE.read_text('utf-8')


STOCK = {
    'resnet18_8xb32-90e_in1k': '30.10',
    'resnet50_8xb32-90e_in1k': '23.45',
    'resnet50_1xb256-300e_cifar100': '20.10',
    'resnet50_1xb128-200e_cifar100': '20.10',
    'resnext101-32x4d_8xb32-90e_in1k': '21.39',
    'se-resnet50_8xb32-90e_in1k': '22.26',
    'ba2m-resnet50_8xb32-90e_in1k': '',
    'faster-rcnn_r50_fpn_2x_coco': '38.40',
    'faster-rcnn_r101_fpn_2x_coco': '39.80',
    'mask-rcnn_r50_fpn_2x_coco': '39.20 35.40',
    'mask-rcnn_r101_fpn_2x_coco': '40.80 36.60',
    'faster-rcnn_ba2m-r50_fpn_2x_coco': '',
}


@pytest.mark.parametrize('name', STOCK)
def test_networks_of_the_hosts(name, paper_tables):
    metrics = 'Top 1 Accuracy', 'box AP', 'mask AP'
    found = [paper_tables.find_stock(name, metric) for metric in metrics]
    assert ' '.join(filter(None, found)) == STOCK[name]


def test_readmes_have_what_the_hosts_have(paper_tables):
    seen = 0
    for folder in ('faster_rcnn', 'mask_rcnn', 'resnet', 'resnext'):
        text = (ROOT / f'configs/{folder}/README.md').read_text('utf-8')
        head, _, *rows = [x for x in text.splitlines() if x.startswith('| ')]
        column = head.strip('|').split('|').index(' stock ')
        for row in rows:
            cells = row.strip('|').split('|')
            if name := cells[0].partition('](')[2].rpartition('.py')[0]:
                config = name
            metric = 'mask AP' if ' masks ' in cells else 'box AP'
            if folder.startswith('resne'):
                metric = 'Top 1 Accuracy'
            expected = paper_tables.find_stock(config, metric)
            assert cells[column].strip() == expected, row
            seen += bool(expected)
    assert seen == 2 + 4 + 6 + 2


def test_front_page_has_what_the_hosts_have(paper_tables):
    """The third column of its table."""
    page = (ROOT / 'docs/index.md').read_text('utf-8')
    rows = [
        x for x in page.splitlines() if x.startswith(('| CI', '| Im', '| CO'))
    ]
    found = [re.findall(r'\d+\.\d+', row.split(' | ')[2]) for row in rows]
    names = [
        ['resnet50_cifar100'],
        ['resnet50_in1k'],
        [f'faster-rcnn_r{depth}_fpn_2x_coco' for depth in (50, 101)],
        [f'mask-rcnn_r{depth}_fpn_2x_coco' for depth in (50, 101)],
    ]
    for figures, configs in zip(found, names, strict=True):
        for figure, config in zip(figures, configs, strict=True):
            metrics = 'Top 1 Accuracy', 'box AP'
            values = [paper_tables.find_stock(config, m) for m in metrics]
            assert float(figure) == float(''.join(values))


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
