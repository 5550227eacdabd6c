import os
import runpy

import cv2
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
    grid = cv2.imread(str(ROOT / table['detections']))
    # 12 images of 128×128 beside their ground truth, 3 in a row
    assert grid.shape == (532, 784, 3)


def test_demo_deletes_only_what_a_demo_left(tmp_path):
    cleared = runpy.run_path(str(ROOT / 'tools/demo.py'))['cleared']
    with pytest.raises(KeyError), cleared(tmp_path):
        (tmp_path / 'test').mkdir()
        (tmp_path / 'demo.pth').touch()
        raise KeyError
    (tmp_path / 'notes.txt').write_text('mine')
    text = run_tool('demo.py', '--work-dir', tmp_path, fails=True)
    assert f'{tmp_path} has notes.txt, which no demo made' in text
    assert {*os.listdir(tmp_path)} == {'notes.txt', '.made-by-demo'}
