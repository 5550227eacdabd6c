"""The example of docs/attention.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmba2m import HOSTS

PAGE = Path(__file__).parents[3] / 'docs/attention.md'


@pytest.mark.slow  # a process of its own
def test_a_module_of_ones_own_passes_what_is_tested_of_all(tmp_path):
    text = PAGE.read_text(encoding='utf-8')
    blocks = re.findall(r'^```python\n(.*?)^```$', text, re.M | re.S)
    (code,) = (block for block in blocks if 'SpatialGate' in block)
    (tmp_path / 'spatial_gate.py').write_text(code, encoding='utf-8')
    selected = 'SpatialGate and not documentation'  # as the page says
    assert f'-k "{selected}"' in text
    tests = str(Path(__file__).with_name('test_common.py'))
    options = ['-q', '-p', 'spatial_gate', '-p', 'no:cacheprovider']
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', *options, '-k', selected, tests],
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = int(re.search(r'(\d+) passed', done.stdout).group(1))
    # in nine places of each host, and more
    assert passed >= 9 * len(HOSTS) + 9
    assert 'skipped' not in done.stdout
