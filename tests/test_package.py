import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mmba2m
from mmba2m.registry import HOOKS, MODELS

ROOT = str(Path(mmba2m.__file__).parents[1])

# What hides hosts as if they were not installed, whatever imports them, and
# what is tried then, each in a fork of one process
HIDE = """
import importlib.metadata, json, os, sys
import mmcv, mmengine, torch
version = importlib.metadata.version

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in hidden:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

def hide_version(name):
    if name.removeprefix('onedl-').replace('mmdetection', 'mmdet') in hidden:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

sys.meta_path.insert(0, Hide())
importlib.metadata.version = hide_version
for case, (hidden, code) in json.load(sys.stdin).items():
    if not os.fork():
        exec(code)
        os._exit(0)
    assert os.wait()[1] == 0, case
"""
ONE_HOST = """
from {0}.registry import HOOKS, MODELS
MODELS.build(dict(type='mmba2m.BA2M', in_channels=16))
assert sys.modules['mmba2m'].HOSTS == ('{0}',)
found = MODELS.get('BA2MResNet').__module__
assert found == 'mmba2m.models.backbones.{0}_resnet', found
assert HOOKS.build(dict(type='mmba2m.BA2MAnnealHook')).begin == 0.5
assert not any(name.split('.')[0] in hidden for name in sys.modules)
"""
NO_HOST = """
from mmengine.registry import MODELS
layer = MODELS.build(dict(type='mmba2m.BA2M', in_channels=16))
assert layer(torch.randn(4, 16, 8, 8)).shape == (4, 16, 8, 8)
assert sys.modules['mmba2m'].HOSTS == ()
"""
BOTH = """
from importlib import import_module
from mmengine.config import Config
if case == 'hosts first':
    import mmpretrain, mmdet
for _ in range(2):
    text = "custom_imports = dict(imports=['mmba2m'])"
    Config.fromstring(text, '.py')
for host in ('mmdet', 'mmpretrain'):
    models = import_module(f'{host}.registry').MODELS
    for name in ('BA2MResNet', 'BA2MResNeXt'):
        network = models.build(dict(type=name, depth=50))
        found = type(network).__module__
        assert found == f'mmba2m.models.backbones.{host}_resnet', found
"""
CASES = {
    'no host': (['mmdet', 'mmpretrain'], NO_HOST),
    'mmdet': (['mmpretrain'], ONE_HOST.format('mmdet')),
    'mmpretrain': (['mmdet'], ONE_HOST.format('mmpretrain')),
    'mmba2m first': ([], BOTH),
    'hosts first': ([], BOTH),
}


ALONE = """
import io, runpy, sys
from contextlib import redirect_stdout, suppress
with redirect_stdout(io.StringIO()), suppress(SystemExit):
    runpy.run_path(sys.argv[0], run_name='__main__')
print(*{name.split('.')[0] for name in sys.modules})
"""


@pytest.mark.parametrize(
    ('tool', 'others'),
    [
        ('dataset_converters/make_shapes', {'torch', 'mmengine'}),
        ('model_converters/publish_model', set()),
    ],
)
def test_tools_that_need_no_host_import_none(tool, others):
    folder, _ = tool.split('/')
    code = f"import sys; sys.argv = ['tools/{tool}.py', '--help']\n{ALONE}"
    path = os.pathsep.join([ROOT, f'{ROOT}/tools/{folder}'])
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {*done.stdout.split()}
    assert not done.stderr and 'mmba2m' in found
    assert not {'mmcv', *mmba2m.HOSTS, *others} & found


@pytest.mark.parametrize('host', mmba2m.HOSTS)
def test_what_is_found_in_each_host(host):
    registries = import_module(f'{host}.registry')
    for name in ('BA2MResNet', 'BA2MResNeXt'):
        leaf = registries.MODELS.get(name)
        assert leaf.__module__ == f'mmba2m.models.backbones.{host}_resnet'
        base = registries.MODELS.get(name.removeprefix('BA2M'))
        assert issubclass(leaf, base)
    # what belongs to no host
    assert registries.MODELS.get('mmba2m.BA2M') is MODELS.get('BA2M')
    hook = HOOKS.get('BA2MAnnealHook')
    assert registries.HOOKS.get('mmba2m.BA2MAnnealHook') is hook


@pytest.mark.slow
def test_hosts_that_are_there_are_enough():
    """No host, one, or both, whichever is imported first, and twice."""
    path = os.pathsep.join([ROOT, os.environ.get('PYTHONPATH', '')])
    hosts = mmba2m.HOSTS
    known = CASES if len(hosts) == 2 else ('no host', *hosts)
    subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', HIDE],
        input=json.dumps({case: CASES[case] for case in known}),
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
        check=True,
    )
