"""The report on environments that are whole, broken and crashing."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mmba2m
from mmba2m.checkpoints import environment_report
from mmba2m.environment_report import (
    find_problems,
    find_stack,
    main,
    missing_in_extra,
    missing_in_host,
    probe,
    report,
    shorten_home,
)

ROOT = Path(mmba2m.__file__).parents[1]
ONEDL = {
    'torch': '2.11.0',
    'torchvision': '0.26.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmpretrain': '1.3.6',
}
OPENMMLAB = {
    'torch': '2.1.2+cu121',
    'torchvision': '0.16.2',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
}
#: hides packages from every Python that is started
SITE = """
import sys
from importlib import metadata

hidden = {hidden!r}
sys.modules.update(dict.fromkeys(hidden))  # as if they were not there
version = metadata.version


def hide_version(name):
    if name in hidden:
        raise metadata.PackageNotFoundError(name)
    return version(name)


metadata.version = hide_version
"""


def run(tmp_path, hidden=(), code=0, **files):
    """Runs ``python -m mmba2m`` in a folder with these files."""
    site = tmp_path / 'site'
    site.mkdir()
    (site / 'sitecustomize.py').write_text(SITE.format(hidden=hidden))
    for name, text in files.items():
        path = tmp_path / 'cwd' / name / '__init__.py'
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / 'cwd').mkdir(exist_ok=True)
    path = os.pathsep.join([str(site), str(ROOT)])
    done = subprocess.run(
        [sys.executable, '-m', 'mmba2m'],
        cwd=tmp_path / 'cwd',
        env=dict(os.environ, PYTHONPATH=path, CUDA_VISIBLE_DEVICES='-1'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def row(text, first):
    (line,) = [x for x in text.splitlines() if x.startswith(f'| {first} |')]
    return [cell.strip() for cell in line.strip('|').split('|')][1:]


def test_this_environment(tmp_path):
    text = run(tmp_path)
    name, version = row(text, 'torch')[0].split()
    assert (name, version) == ('torch', metadata.version('torch'))
    onedl = row(text, 'mmengine')[0].startswith('onedl-')
    assert f'- stack: {"onedl" if onedl else "openmmlab"}\n' in text
    assert f'- mmba2m: works with {" and ".join(mmba2m.HOSTS)}\n' in text
    assert "- mmcv's ops: work on the CPU; compiled " in text
    assert row(text, 'detection') == ['yes', '']
    assert row(text, 'classification') == ['yes', '']
    assert row(text, 'TensorBoard') == ['yes', '']
    assert 'Problems' not in text
    folder = shorten_home(str(Path(pytest.__file__).parents[1]))
    assert row(text, 'mmcv')[1] == os.path.join(folder, 'mmcv')


@pytest.mark.skipif('mmpretrain' not in mmba2m.HOSTS, reason='no host')
def test_no_ops_and_a_folder_that_shadows(tmp_path):
    text = run(
        tmp_path,
        hidden=('mmcv._ext',),
        mmdet='raise ImportError("a folder of mine")',
    )
    assert '- mmba2m: works with mmpretrain\n' in text
    assert "- mmcv's ops: none, ModuleNotFoundError: " in text
    works, why = row(text, 'detection')
    distribution, version = row(text, 'mmcv')[0].split()
    assert works == 'no'
    assert why.startswith('mmcv has no ops: `MMCV_WITH_OPS=1 pip install ')
    assert why.endswith(f' {distribution}=={version}`')
    assert row(text, 'classification') == ['yes', '']
    folder = shorten_home(str(tmp_path / 'cwd/mmdet'))
    assert row(text, 'mmdet')[1] == folder
    assert f'- mmdet: {folder} shadows the installed one, ' in text
    assert '- mmdet: it does not import: ImportError: a folder' in text


def test_without_torch_nothing_works(tmp_path):
    text = run(tmp_path, hidden=('torch', 'tensorboard'), code=1)
    message = 'torch is not installed, torch>=2.1 is needed'
    assert (
        f'- mmba2m: does not import: ImportError: mmba2m: {message}.' in text
    )
    assert row(text, 'torch') == ['not installed', '-']
    for task in ('detection', 'classification'):
        works, why = row(text, task)
        assert works == 'no'
        assert why.startswith(f'{message}: `pip install "mmba2m[o')
    assert row(text, 'TensorBoard') == [
        'no',
        'tensorboard missing: `pip install tensorboard`',
    ]
    assert f'- torch: {message}\n' in text


# What is said, of environments that are made up


@pytest.fixture
def install(monkeypatch):
    """Pretends that exactly these distributions are installed."""

    def pretend(versions, requires=(), extras=()):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        class Metadata:
            def __init__(self, name):
                version(name)

            def get_all(self, key):
                assert key == 'Provides-Extra'
                return list(extras) or None

        fake = dict(
            version=version, metadata=Metadata, requires=lambda _: requires
        )
        for name, function in fake.items():
            monkeypatch.setattr(metadata, name, function)
        monkeypatch.setattr(
            environment_report, 'find_installed', lambda *_: None
        )

    return pretend


def probes(hosts=('mmdet', 'mmpretrain'), **errors):
    """What is found where all is well, but for these errors."""
    found = {
        name: dict(file=f'/site/{name}/__init__.py', version='1')
        for name in environment_report.PACKAGES
    }
    found['torch'].update(cuda='12.1', gpus=['A card, 79.2 GiB'])
    found['mmengine'].update(tools=dict(NVCC='V12.1'))
    found['mmcv.ops'] = dict(works=['CPU', 'GPU'], fails={}, compiled='12.1')
    found['mmba2m'] = dict(hosts=list(hosts), warnings=['mmdet: news'])
    for name, error in errors.items():
        found[name.replace('_', '.')] = dict(error=error)
    return found


@pytest.mark.parametrize(
    ('versions', 'stack'),
    [
        (ONEDL, 'onedl'),
        (OPENMMLAB, 'openmmlab'),
        (dict(torch='2.1.2'), 'none'),
        (
            dict(OPENMMLAB, **{'onedl-mmcv': '2.3.6'}),
            'mixed: mmengine 0.10.7, onedl-mmcv 2.3.6, mmcv 2.1.0, '
            'mmdet 3.3.0, mmpretrain 1.2.0',
        ),
    ],
    ids=['onedl', 'openmmlab', 'none', 'mixed'],
)
def test_stack_is_named(install, versions, stack):
    install(versions)
    assert find_stack() == stack


def test_gpus_and_compilers(install):
    install(OPENMMLAB)
    text = '\n'.join(report(probes()))
    for line in (
        '- CUDA of torch: 12.1',
        '- GPU: A card, 79.2 GiB',
        '- NVCC: V12.1',
        "- mmcv's ops: work on the CPU and the GPU; compiled with CUDA 12.1",
        '- mmba2m: works with mmdet and mmpretrain',
    ):
        assert line in text.splitlines()
    assert row(text, 'torch') == ['torch 2.1.2+cu121', '/site/torch']
    assert 'Problems' not in text  # the hosts' own warnings are not ours


def test_ops_that_work_on_the_cpu_only(install):
    install(ONEDL)
    found = probes()
    found['mmcv.ops'] = dict(
        works=['CPU'],
        fails=dict(GPU='not compiled with GPU support'),
        compiled='not available',
    )
    assert (
        "- mmcv's ops: work on the CPU; not on the GPU: not compiled with "
        'GPU support; compiled for the CPU only'
    ) in report(found)


def test_a_host_that_is_missing_or_too_old(install):
    versions = dict(OPENMMLAB, mmdet='2.28.2', mmba2m='0.1.0')
    del versions['mmpretrain']
    install(versions)
    found = probes(hosts=())
    assert missing_in_host('mmdet', 'openmmlab', found) == (
        'mmdet 2.28.2 is installed, mmdet>=3.3.0,<3.6 is needed: '
        '`pip install "mmba2m[openmmlab]"`'
    )
    assert missing_in_host('mmpretrain', 'none', found) == (
        'mmpretrain is not installed, mmpretrain>=1.2.0,<1.4 is needed: '
        '`pip install "mmba2m[onedl]"`'
    )
    text = '\n'.join(report(dict(found, mmpretrain=dict(error='not there'))))
    assert '- mmba2m: imports, but finds neither mmdet nor mmpretrain' in text
    assert '- mmdet: mmdet 2.28.2 is installed, mmdet>=3.3.0' in text
    # a host that was never installed is no problem, but a missing feature
    assert '- mmpretrain: ' not in text


def test_a_mixed_stack_needs_a_new_environment(install):
    install(dict(OPENMMLAB, **ONEDL, mmba2m='0.1.0'))
    found = probes(hosts=(), mmba2m='ImportError: no')
    why = 'both stacks; in a new environment: `pip install "mmba2m[onedl]"`'
    text = '\n'.join(report(found))
    assert row(text, 'detection') == ['no', why]
    assert row(text, 'mmcv')[0] == 'onedl-mmcv 2.3.6, mmcv 2.1.0'
    assert '; they overwrite each other\n' in text


def test_mmcv_lite_is_replaced_by_mmcv(install):
    versions = dict(OPENMMLAB, **{'mmcv-lite': '2.1.0'})
    del versions['mmcv']
    install(versions)
    found = probes(hosts=['mmpretrain'], mmcv_ops='ModuleNotFoundError: x')
    why = missing_in_host('mmdet', 'openmmlab', found)
    assert why.endswith(' --no-binary mmcv mmcv==2.1.0`')
    assert missing_in_host('mmpretrain', 'openmmlab', found) is None


def test_a_host_that_breaks_is_quoted(install):
    install(ONEDL)
    found = probes(hosts=['mmpretrain'], mmdet='AttributeError: dtype')
    assert missing_in_host('mmdet', 'onedl', found) == 'AttributeError: dtype'
    problems = list(find_problems('mmdet', found['mmdet']))
    assert problems == ['it does not import: AttributeError: dtype']


def test_a_folder_instead_of_a_package(install):
    install(dict(torch='2.1.2'))
    found = dict(file='/here/mmdet')
    (problem,) = find_problems('mmdet', found)
    assert 'imported from /here/mmdet: a folder of this name' in problem
    missing = dict(error='ModuleNotFoundError: mmdet')
    assert not list(find_problems('mmdet', missing))


REQUIRES = [
    'torch',
    'onnx; extra == "export"',
    'onnxruntime>=1.17; extra == "export"',
    'scikit-learn; extra == "analysis"',
]


def test_extras_and_their_commands(install):
    extras = ('onedl', 'openmmlab', 'export', 'analysis', 'all')
    versions = dict(ONEDL, mmba2m='0.1.0', onnx='1.16', tensorboard='2.1')
    install(versions, REQUIRES, extras)
    text = '\n'.join(report(probes()))
    assert row(text, 'export to ONNX') == [
        'no',
        'onnxruntime missing: `pip install "mmba2m[export]"`',
    ]
    assert row(text, 'pictures') == [
        'no',
        'scikit-learn missing: `pip install "mmba2m[analysis]"`',
    ]
    assert row(text, 'TensorBoard') == ['yes', '']
    assert '| all |' not in text
    install(dict(versions, onnxruntime='1.17'), REQUIRES, extras)
    assert missing_in_extra('export') is None


def test_a_checkout_that_is_not_installed(install):
    install(ONEDL)
    text = '\n'.join(report(probes()))
    assert row(text, 'TensorBoard') == [
        'no',
        'tensorboard missing: `pip install tensorboard`',
    ]
    why = missing_in_host('mmdet', 'none', probes(hosts=()))
    assert why == 'see the problems below'
    install({})
    why = missing_in_host('mmdet', 'none', probes(hosts=()))
    assert why.endswith(': `pip install -e ".[onedl]"`')


def test_where_pip_has_put_a_package(tmp_path, monkeypatch):
    site, elsewhere = tmp_path / 'site', tmp_path / 'elsewhere/torchvision'
    info = site / 'torchvision-9.9.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Name: torchvision\nVersion: 9.9\n')
    (info / 'RECORD').write_text('torchvision/__init__.py,,\n')
    monkeypatch.setattr(sys, 'path', [str(site), *sys.path])
    inside = site / 'torchvision/__init__.py'
    inside.parent.mkdir()
    inside.touch()
    own, other = (
        list(find_problems('torchvision', dict(file=str(file))))
        for file in (inside, elsewhere / '__init__.py')
    )
    assert not own
    assert other == [
        f'{elsewhere} shadows the installed one, {inside.parent}: rename '
        'that folder, or call Python from another one'
    ]
    # an editable install
    (info / 'RECORD').write_text('__editable__.torchvision.pth,,\n')
    url = dict(url=f'file://{tmp_path}/elsewhere', dir_info={'editable': True})
    (info / 'direct_url.json').write_text(json.dumps(url))
    own, other = (
        list(find_problems('torchvision', dict(file=str(file))))
        for file in (elsewhere / '__init__.py', inside)
    )
    assert not own
    assert f'the installed one, {tmp_path / "elsewhere"}: ' in other[0]


def test_home_is_shortened(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    text = 'in /home/me/.venv/x and /home/melissa, /home/me: no'
    assert shorten_home(text) == 'in ~/.venv/x and /home/melissa, ~: no'
    monkeypatch.setenv('HOME', '/')
    assert shorten_home(text) == text


def test_imports_that_fail_in_any_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in dict(
        fine_one='__version__ = "1.2"',
        raises_one='raise OSError("no\\nmore")',
        exits_one='raise SystemExit(3)',
        ends_one='import os; os._exit(7)',
        killed_one='import os, signal; os.kill(os.getpid(), signal.SIGKILL)',
        sleeps_one='import time; time.sleep(60)',
        fine_two='import warnings; warnings.warn("mind")',
    ).items():
        (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.setattr(environment_report, 'TIMEOUT', 5)
    names = [path.stem for path in sorted(tmp_path.glob('*.py'))]
    found = probe([*names, 'missing_one'])
    errors = {name: f['error'] for name, f in found.items() if 'error' in f}
    assert errors == dict(
        raises_one='OSError: no',
        exits_one='SystemExit: 3',
        ends_one='it ends Python with status 7',
        killed_one='it ends Python by SIGKILL',
        sleeps_one='it takes more than 5 s',
        missing_one="ModuleNotFoundError: No module named 'missing_one'",
    )
    for name in ('fine_one', 'killed_one', 'sleeps_one'):
        assert found[name]['file'] == str(tmp_path / f'{name}.py')
    assert found['fine_one']['version'] == '1.2'
    assert found['fine_two']['warnings'] == ['mind']
    assert 'file' not in found['missing_one']


@pytest.mark.parametrize('hosts', [['mmdet'], []])
def test_exit_status(install, monkeypatch, capsys, hosts):
    install(ONEDL)
    found = probes(hosts=hosts)
    monkeypatch.setattr(environment_report, 'probe', lambda _: found)
    assert main([]) == (0 if hosts else 1)
    assert capsys.readouterr().out.startswith('### Environment of mmba2m ')
