import runpy
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools/dataset_converters/make_shapes.py'


@pytest.fixture(scope='module')
def main():
    return runpy.run_path(str(TOOL))['main']


def test_options_reach_the_generator(main, tmp_path, capsys):
    out = tmp_path / 'data' / 'shapes'
    options = '--num-train 2 --num-val 1 --size 64 --crop-size 32'
    options += ' --seed 7 --formats coco imagefolder'
    main([str(out), *options.split()])
    assert capsys.readouterr().out.splitlines() == [
        'shapes: 3/3 images',
        f'shapes: {out}',
    ]
    names = sorted(p.name for p in out.iterdir())
    assert names == ['coco', 'imagefolder', 'shapes.json']
    assert len(list((out / 'coco/train2017').iterdir())) == 2


def test_errors_are_one_line(main, tmp_path):
    with pytest.raises(SystemExit) as error:
        main([str(tmp_path / 'a'), '--size', '9'])
    assert error.value.code == (
        'make_shapes: size must be a whole number from 64 to 1024, got 9'
    )
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(SystemExit, match='not made by this generator'):
        main([str(tmp_path), '--overwrite'])
    assert (tmp_path / 'notes.txt').read_text() == 'mine'
