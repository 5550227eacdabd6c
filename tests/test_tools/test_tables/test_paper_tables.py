import importlib.util
from pathlib import Path

import pytest
import yaml
from torch import nn

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def paper_tables():
    path = ROOT / 'tools/tables/paper_tables.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_tool_writes(paper_tables, monkeypatch):
    """If not: python tools/tables/paper_tables.py."""
    # counting needs no values, and drawing them takes most of the time
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    page = (ROOT / 'docs/model_zoo.md').read_text(encoding='utf-8')
    tables = paper_tables.load_tables()
    assert page == paper_tables.format_page(tables)


def test_all_tables_are_there_in_order(paper_tables):
    tables = [table['table'] for table in paper_tables.load_tables()]
    assert tuple(tables) == paper_tables.NUMERALS


def test_every_config_of_the_papers_data_sets_has_a_row(paper_tables):
    listed = {
        row['config']
        for table in paper_tables.load_tables()
        for row in table['rows']
    }
    for path in (ROOT / 'configs').rglob('*.py'):
        name = path.relative_to(ROOT).as_posix()
        # the paper has no RetinaNet on COCO, no masks on VOC, and fewer
        # attention modules
        beyond = ('_base_', 'retinanet/', 'pascal_voc/mask-rcnn', 'attention/')
        if path.stem.endswith(('_coco', '_voc0712', '_in1k', '_cifar100')):
            assert name in listed or any(b in name for b in beyond), name


def test_metafiles_have_these_counts(paper_tables, monkeypatch):
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    for path in (ROOT / 'configs').glob('*/metafile.yml'):
        for model in yaml.safe_load(path.read_text())['Models']:
            metadata = model['Metadata']
            if 'Parameters' not in metadata:  # of detectors
                continue
            cifar = metadata['Training Data'] == 'CIFAR-100'
            size = (32, 32) if cifar else (224, 224)
            counts = paper_tables.measure(model['Config'], {}, size)
            listed = metadata['Parameters'], metadata['FLOPs']
            assert counts == listed, model['Name']


@pytest.mark.parametrize(
    ('ours', 'printed', 'tolerance', 'expected'),
    [
        (24.2093, '24.21', 0, '24.21 / 24.21 ✓'),
        (24.2151, '24.21', 0, '24.22 / 24.21 (+0.01)'),
        (1.29, '1.3', 0, '1.29 / 1.3 ✓'),
        (27.756, '26.21', 0, '27.76 / 26.21 (+1.55)'),
        (4.305, '4.32', 0.01, '4.30 / 4.32 ✓'),
        (4.05, '4.32', 0.01, '4.05 / 4.32 (-0.27)'),
        (4.305, None, 0.01, '4.30 / –'),
        (None, '28.09', 0, '– / 28.09'),
        (None, None, 0, ''),
    ],
)
def test_comparison_with_the_paper(
    paper_tables, ours, printed, tolerance, expected
):
    assert paper_tables.compare(ours, printed, tolerance) == expected


def test_options_are_those_of_the_command_line(paper_tables):
    options = {'a.b': [True, False], 'c': ['x', 'y'], 'd': 4}
    text = paper_tables.format_options(options)
    assert text == '`a.b=[True,False]` `c=[x,y]` `d=4`'
