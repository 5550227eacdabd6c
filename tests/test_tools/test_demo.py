import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_demo(tmp_path, *options):
    return subprocess.run(
        [sys.executable, 'tools/demo.py', *options],
        cwd=ROOT,
        env=dict(os.environ, SHAPES_ROOT=str(tmp_path / 'shapes')),
        text=True,
        capture_output=True,
        check=False,
    )


def test_demo_leaves_what_it_promises(tmp_path):
    options = ['--work-dir', tmp_path / 'demo']
    options += ['--cfg-options', 'train_cfg.max_epochs=1']
    done = run_demo(tmp_path, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    table = dict(
        line.split(maxsplit=1) for line in done.stdout.splitlines()[-7:]
    )
    assert 0 < float(table['AP']) < float(table['AP50']) < 1
    assert float(table['minutes']) > 0
    for name in ('checkpoint', 'log', 'curves', 'detections'):
        assert (ROOT / table[name]).stat().st_size > 9999


def test_demo_deletes_only_what_a_demo_left(tmp_path):
    (tmp_path / 'notes.txt').write_text('mine')
    done = run_demo(tmp_path, '--work-dir', tmp_path)
    assert done.returncode != 0
    assert f'{tmp_path} is not of an earlier demo' in done.stderr
    assert (tmp_path / 'notes.txt').exists()
