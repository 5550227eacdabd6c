import runpy

import cv2
import numpy as np
import pytest
from tool_runs import ROOT, run_tool


@pytest.mark.slow
def test_demo_leaves_what_it_promises(tmp_path):
    args = ['--work-dir', tmp_path / 'demo', '--cfg-options']
    args += ['train_cfg.max_epochs=2', 'train_dataloader.dataset.indices=40']
    args += [f'{x}_dataloader.dataset.indices=20' for x in ('val', 'test')]
    env = dict(SHAPES_ROOT=str(tmp_path / 'shapes'))
    text = run_tool('demo.py', *args, env=env)
    table = dict(line.split(maxsplit=1) for line in text.splitlines()[-7:])
    assert 0 <= float(table['AP']) <= float(table['AP50']) < 1
    assert float(table['minutes']) > 0
    for name in ('checkpoint', 'log', 'curves', 'detections'):
        assert (ROOT / table[name]).stat().st_size > 9999


def test_demo_deletes_only_what_a_demo_left(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    text = run_tool('demo.py', '--work-dir', tmp_path, fails=True)
    assert text.endswith(f'{tmp_path} is not of an earlier demo, name another')
    assert (tmp_path / 'notes.txt').exists()


def test_pictures_are_tiled_three_in_a_row(tmp_path):
    for i in range(5):
        image = np.full((20, 40, 3), 50 * i, np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.jpg'), image)
    tile = runpy.run_path(str(ROOT / 'tools/demo.py'))['tile']
    tile(tmp_path, tmp_path / 'out.png')
    grid = cv2.imread(str(tmp_path / 'out.png'))
    assert grid.shape == (2 * 24 + 4, 3 * 44 + 4, 3)
    middles = grid[14::24, 24::44, 0].astype(int)
    assert np.abs(middles - [[0, 50, 100], [150, 200, 255]]).max() <= 2
