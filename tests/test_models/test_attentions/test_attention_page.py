"""The examples of docs/attention.md."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from mmba2m import HOSTS
from mmba2m.models.backbones.slots import (
    find_attention,
    to_entries,
)

PAGE = Path(__file__).parents[3] / 'docs/attention.md'
BLOCKS = re.findall(
    r'^```python\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.M | re.S
)
EXAMPLES = [block for block in BLOCKS if 'model = dict(' in block]


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('code', EXAMPLES)
def test_configs_build(code, host, tmp_path, monkeypatch):
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    (tmp_path / 'config.py').write_text(code, encoding='utf-8')
    cfg = Config.fromfile(tmp_path / 'config.py').model.backbone
    cfg.setdefault('depth', 50)
    scope, _, name = cfg['type'].rpartition('.')
    if scope and scope != host:
        pytest.skip(f'is of {scope}')
    registry = import_module(f'{host}.registry').MODELS
    modules = list(registry.build({**cfg, 'type': name}).modules())
    types = [entry['type'] for entry in to_entries(cfg.get('attention'))]
    types += [
        entry['type'].removeprefix('mmba2m.')
        for entry in (
            *(plugin['cfg'] for plugin in cfg.get('plugins', ())),
            *to_entries(cfg.get('dcn')),
        )
    ]
    assert types
    for kind in types + ['BA2M'] * ('ba2m_cfg' in cfg):
        assert any(type(m) is find_attention(kind) for m in modules), kind


def test_there_are_such_examples():
    text = '\n'.join(EXAMPLES)
    for word in ('BA2MResNet', 'plugins', 'dcn', 'input_size', 'stages'):
        assert word in text
    assert len(BLOCKS) == len(EXAMPLES) + 1


def test_a_module_of_ones_own_passes_what_is_tested_of_all(tmp_path):
    (code,) = (block for block in BLOCKS if 'register_module' in block)
    (tmp_path / 'spatial_gate.py').write_text(code, encoding='utf-8')
    selected = 'SpatialGate and not documentation'  # as the page says
    assert f'-k "{selected}"' in PAGE.read_text(encoding='utf-8')
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'pytest', '-q', '-p', 'spatial_gate'),
            *('-p', 'no:cacheprovider', '-k', selected),
            str(Path(__file__).with_name('test_common.py')),
        ],
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
