import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_demo_leaves_what_it_promises(tmp_path):
    done = subprocess.run(
        [sys.executable, 'tools/demo.py', '--work-dir', tmp_path / 'demo']
        + ['--cfg-options', 'train_cfg.max_epochs=1'],
        cwd=ROOT,
        env=dict(os.environ, SHAPES_ROOT=str(tmp_path / 'shapes')),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    table = dict(
        line.split(maxsplit=1) for line in done.stdout.splitlines()[-7:]
    )
    assert 0 < float(table['AP']) < float(table['AP50']) < 1
    assert float(table['minutes']) > 0
    for name in ('checkpoint', 'log', 'curves', 'detections'):
        assert (ROOT / table[name]).stat().st_size > 9999
