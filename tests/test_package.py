import os
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import mmba2m
from mmba2m.registry import HOOKS, MODELS

ROOT = str(Path(mmba2m.__file__).parents[1])

#: hides hosts as if they were not installed, whatever imports them
HIDE = """
def show(*args):  # the hosts print, too
    print('>', *args)
import importlib.metadata, sys
hidden = {hidden!r}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in hidden:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hide())
version = importlib.metadata.version
def hide_version(name):
    aliases = dict(mmdet='mmdetection')
    for host in hidden:
        if name in (host, 'onedl-' + aliases.get(host, host)):
            raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = hide_version
"""


def run(code, hidden=()):
    """Runs code in a fresh interpreter and returns what it shows."""
    code = HIDE.format(hidden=tuple(hidden)) + textwrap.dedent(code)
    path = os.pathsep.join([ROOT, os.environ.get('PYTHONPATH', '')])
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    return [line[2:] for line in lines if line.startswith('> ')]


def other(host):
    return {'mmdet': 'mmpretrain', 'mmpretrain': 'mmdet'}[host]


def test_version():
    assert mmba2m.__version__.count('.') == 2


@pytest.mark.parametrize('host', mmba2m.HOSTS)
@pytest.mark.parametrize('name', ['BA2MResNet', 'BA2MResNeXt'])
def test_backbones_are_found_in_each_host(host, name):
    registry = import_module(f'{host}.registry').MODELS
    leaf = registry.get(name)
    assert leaf.__module__ == f'mmba2m.models.backbones.{host}_resnet'
    assert issubclass(leaf, registry.get(name.removeprefix('BA2M')))


def test_what_belongs_to_no_host_is_found_in_all():
    for host in mmba2m.HOSTS:
        registries = import_module(f'{host}.registry')
        assert registries.MODELS.get('mmba2m.BA2M') is MODELS.get('BA2M')
        hook = HOOKS.get('BA2MAnnealHook')
        assert registries.HOOKS.get('mmba2m.BA2MAnnealHook') is hook


@pytest.mark.parametrize('host', mmba2m.HOSTS)
def test_one_host_is_enough(host):
    """Nothing is imported by hand before the registries are asked."""
    lines = run(
        f"""
        from {host}.registry import HOOKS, MODELS
        layer = MODELS.build(dict(type='mmba2m.BA2M', in_channels=16))
        show(type(layer).__module__, sys.modules['mmba2m'].HOSTS)
        show(MODELS.get('BA2MResNet').__module__)
        show(HOOKS.build(dict(type='mmba2m.BA2MAnnealHook')).begin)
        show(any(m.split('.')[0] in hidden for m in sys.modules))
        """,
        hidden=[other(host)],
    )
    assert lines == [
        f"mmba2m.models.attentions.ba2m.module ('{host}',)",
        f'mmba2m.models.backbones.{host}_resnet',
        '0.5',
        'False',
    ]


@pytest.mark.skipif(len(mmba2m.HOSTS) < 2, reason='needs both hosts')
def test_custom_imports_register_in_both_hosts():
    lines = run(
        """
        from mmengine.config import Config
        Config.fromstring("custom_imports = dict(imports=['mmba2m'])", '.py')
        for host in ('mmdet', 'mmpretrain'):
            from importlib import import_module
            models = import_module(f'{host}.registry').MODELS
            for name in ('BA2MResNet', 'BA2MResNeXt'):
                network = models.build(dict(type=name, depth=50))
                show(type(network).__module__, network.layer4.ba2m.reduction)
        """
    )
    assert lines == [
        f'mmba2m.models.backbones.{host}_resnet 16'
        for host in ('mmdet', 'mmpretrain')
        for _ in range(2)
    ]


def test_layers_need_no_host():
    lines = run(
        """
        import torch
        from mmengine.registry import MODELS
        layer = MODELS.build(dict(type='mmba2m.BA2M', in_channels=16))
        show(layer(torch.randn(4, 16, 8, 8)).shape == (4, 16, 8, 8))
        show(sys.modules['mmba2m'].HOSTS)
        """,
        hidden=['mmdet', 'mmpretrain'],
    )
    assert lines == ['True', '()']


def test_unusable_stack_is_one_clear_message():
    code = """
        importlib.metadata.version = lambda name: '0.9.0'
        try:
            import mmba2m
        except ImportError as error:
            show(error)
        """
    (line,) = run(code)
    assert 'torch 0.9.0 is installed, torch>=2.1 is needed' in line
