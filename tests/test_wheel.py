"""What is built of the repository, and the command that comes with it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

from mmba2m.__main__ import TOOLS, main
from mmba2m.config_files import find_config
from mmba2m.version import __version__

ROOT = Path(__file__).parents[1]
NAME = 'faster-rcnn_ba2m-r50_fpn_2x_coco'
#: what no checkout has at first, and what is only for version control
LEFT_OUT = shutil.ignore_patterns(
    *('.git', '.gitignore', '.venv*', '.*_cache', '.dist_test', '__pycache__'),
    *('*.egg-info', '.mim', '_build', 'build', 'data', 'dist', 'work_dirs'),
)


def build(kind, source, out):
    """Builds a 'wheel' or 'sdist' without network, and returns its file."""
    code = 'import sys; from setuptools import build_meta as build; '
    code += f'build.build_{kind}(sys.argv[1])'
    command = [sys.executable, '-c', code, out]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (file,) = out.glob('*.whl' if kind == 'wheel' else '*.tar.gz')
    return file


def list_files(folder):
    files = (path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A folder with a copy of the repository, and what is built of it."""
    folder = tmp_path_factory.mktemp('built')
    source = folder / 'a source'
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    with tarfile.open(build('sdist', source, folder)) as archive:
        archive.extractall(folder)
    unpacked = folder / f'mmba2m-{__version__}'
    build('wheel', unpacked, folder)
    return folder


@pytest.mark.slow
def test_the_sdist_holds_all(built):
    unpacked = list_files(built / f'mmba2m-{__version__}')
    assert len(unpacked) > 500
    source = {f for f in list_files(built / 'a source') if 'egg-info' not in f}
    assert not source - unpacked


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(built, tmp_path):
    """The command by its script, without network, writing nothing there."""
    (wheel,) = built.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if not name.startswith('mmba2m')]
    site, empty = tmp_path / 'site', tmp_path / 'empty'
    empty.mkdir()
    command = [sys.executable, '-m', 'pip', 'install', '--no-index']
    command += ['--no-deps', '--no-build-isolation', '--target', site, wheel]
    subprocess.run(command, check=True, capture_output=True)
    before = list_files(site)
    env = dict(os.environ, PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE='1')

    def call(*args):
        command = [sys.executable, site / 'bin/mmba2m', *args]
        return subprocess.run(
            command, cwd=empty, env=env, check=True, capture_output=True
        ).stdout.decode()

    mim = site / 'mmba2m/.mim'
    assert call('config', NAME) == f'{mim}/configs/faster_rcnn/{NAME}.py\n'
    for name, path in TOOLS.items():
        assert (mim / 'tools' / path).is_file(), name
    call('make_shapes', 'data/shapes')
    checked = call('check', 'mmba2m::demo/ba2m-resnet18_shapes')
    assert checked.splitlines()[-1].startswith('0 errors')
    assert 'usage: dist_train.sh' in call('dist_train', '--help')
    assert list_files(site) == before


@pytest.mark.slow
@pytest.mark.parametrize('address', ['', 'https://git.example/a/mmba2m'])
def test_the_description_needs_no_other_file(built, tmp_path, address):
    """Links and pictures are whole, or not there without an address."""
    source = tmp_path / 'source'
    shutil.copytree(built / 'a source', source)
    if address:
        with (source / 'CITATION.cff').open('a') as stream:
            stream.write(f'repository-code: {address}\n')
    with zipfile.ZipFile(build('wheel', source, tmp_path)) as archive:
        path = f'mmba2m-{__version__}.dist-info/METADATA'
        data = message_from_bytes(archive.read(path))
    assert data['Version'] == __version__
    assert data['Description-Content-Type'] == 'text/markdown'
    assert any(
        'Paper, https://arxiv' in x for x in data.get_all('Project-URL')
    )
    text = data.get_payload()
    targets = [part.split(')')[0] for part in text.split('](')[1:]]
    assert targets and all(x.startswith(('https://', '#')) for x in targets)
    page = f'{address}/blob/v{__version__}/docs/install.md'
    picture = f'{address}/raw/v{__version__}/docs/images/demo_cells.jpg'
    assert (page in targets) == (picture in targets) == bool(address)
    assert '](docs/' not in text and ('![' in text) == bool(address)


def test_one_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
    assert citation['version'] == __version__


# The command, in this process


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs ``mmba2m``; gives its status, output, and what replaces it."""

    def call(*args):
        replaced = []
        monkeypatch.setattr(os, 'execvp', lambda _, new: replaced.extend(new))
        return main(args), *capsys.readouterr(), replaced

    return call


def test_configs(call):
    assert call('config', NAME)[:2] == (0, f'{find_config(NAME)}\n')
    assert f'\nfaster_rcnn/{NAME}.py\n' in call('config')[1]
    assert call('config', 'no')[0].startswith("there is no config 'no'")


def test_tools_take_the_place_of_the_command(call):
    for name, path in TOOLS.items():
        program, file, *args = call(name, 'a b', '-x')[3]
        assert program == ('bash' if path.endswith('.sh') else sys.executable)
        assert Path(file) == ROOT / 'tools' / path and Path(file).is_file()
        assert args == ['a b', '-x']
    command = [sys.executable, '-m', 'mmba2m.data_checks.command', 'c.py']
    assert call('check', 'c.py')[3] == command


def test_other_words_are_no_report(call):
    assert call('--help')[:3:2] == (0, '')
    for words in (['chek'], ['config', 'a', 'b'], ['env', 'a']):
        status, _, error, _ = call(*words)
        assert status == 2 and 'strip' in error
