import pytest
from mmengine.registry import DefaultScope
from tool_runs import run_tool

pytest.importorskip('mmpretrain')

from mmpretrain.datasets import CustomDataset

TOOL = 'dataset_converters/long_tail.py'
COUNTS = {'a cat': 22, 'dog': 26, 'yak': 20}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'train'
    for name, count in COUNTS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f'{index:03}.jpg').touch()
    (root / 'dog/notes.md').touch()
    return root


def read(path):
    lines = path.read_text().splitlines()
    return [line.rsplit(' ', 1) for line in lines]


def test_frequencies_fall_exponentially_and_the_host_reads_them(folder):
    out = folder.parent / 'list.txt'
    text = run_tool(TOOL, folder, out, '--imbalance', 16)
    assert '26 images, by class [20, 5, 1]' in text
    entries = read(out)
    assert len({path for path, _ in entries}) == len(entries) == 26
    assert all((folder / path).suffix == '.jpg' for path, _ in entries)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        args = dict(data_root=str(folder.parent), data_prefix='train')
        dataset = CustomDataset(ann_file='list.txt', **args)
        whole = CustomDataset(**args)
    labels = {info['img_path']: info['gt_label'] for info in whole}
    for info in dataset:
        assert labels[info['img_path']] == info['gt_label']


def test_the_draw_is_known_by_its_seed(folder):
    def draw(*options):
        run_tool(TOOL, folder, folder.parent / 'list.txt', *options)
        return read(folder.parent / 'list.txt')

    first = draw('--imbalance', 4)
    assert [sum(x == y for _, x in first) for y in '012'] == [20, 10, 5]
    assert draw('--imbalance', 4, '--seed', 0) == first
    assert draw('--imbalance', 4, '--seed', 1) != first
    assert len(draw('--imbalance', 1)) == 60


@pytest.mark.parametrize(
    ('place', 'imbalance', 'message'),
    [
        ('none', 100, 'none is no folder'),
        ('train/dog', 100, 'dog has 0 folders: one for a class'),
        ('train', 0.5, 'the imbalance must be at least 1, got 0.5'),
        ('train', 21, 'yak has 20 images, with imbalance 21'),
    ],
)
def test_what_it_cannot_do_is_one_line(folder, place, imbalance, message):
    out = folder.parent / 'list.txt'
    out.write_text('as it was')
    where = folder.parent / place
    text = run_tool(TOOL, where, out, '--imbalance', imbalance, fails=True)
    assert text.splitlines()[-1].startswith('long_tail: ') and message in text
    assert out.read_text() == 'as it was'


def test_a_missing_folder_of_the_list_is_named(folder):
    text = run_tool(
        TOOL,
        folder,
        folder.parent / 'no/list.txt',
        '--imbalance',
        2,
        fails=True,
    )
    assert "/no'" in text.splitlines()[-1]
