"""tools/misc/setup_env.sh, and the sets of packages that it installs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# notes every call, and waits where a file says so; pip does nothing, mmcv's
# ops work
PYTHON = """#!/bin/bash
echo "$*" >>"$FAKE/calls"
case "$*" in
    *version_info*) cat "$(dirname "$0")/version" ;;
    *sysconfig*) echo "$FAKE" ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$FAKE/version" "$3/bin" ;;
    *--no-deps*) [ ! -e "$FAKE/wait" ] || exec sleep 60 ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A copy of the script, and a Python that installs nothing."""
    return Machine(tmp_path)


class Machine:
    def __init__(self, path):
        self.path, self.repo = path, path / 'my repo'
        self.venv = self.repo / '.venv'
        shutil.copytree(ROOT / 'tools/misc', self.repo / 'tools/misc')
        shutil.copytree(ROOT / 'requirements', self.repo / 'requirements')
        shutil.copy(ROOT / 'setup.py', self.repo)
        programs = {'python': PYTHON, 'c++': '#!/bin/sh\ncat >/dev/null\n'}
        for name, text in programs.items():
            (path / name).write_text(text)
            (path / name).chmod(0o755)
        (path / 'Python.h').touch()
        (path / 'version').write_text('3.11')

    def start(self, *args, **env):
        (self.path / 'calls').write_text('')
        paths = dict(HOME='home', FAKE='.', PYTHON='python', CXX='c++')
        own = {key: str(self.path / name) for key, name in paths.items()}
        return subprocess.Popen(
            ['bash', self.repo / 'tools/misc/setup_env.sh', *args],
            env={'PATH': os.environ['PATH'], **own, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a test run in the background may itself ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *args, **env):
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self):
        return (self.path / 'calls').read_text()

    def fails(self, *args, **env):
        """Runs it, checks the failure's form, returns the message."""
        code, _, err = self.run(*args, **env)
        assert code != 0
        assert err.startswith('setup: error: ') and err.count('\n') == 1
        assert not [*self.repo.glob('.venv*')]
        return err


def test_does_what_there_is_to_do(machine):
    code, out, err = machine.run()
    assert (code, err) == (0, '')
    assert 'stage 4/4' in out and '-e .' in machine.calls()
    assert machine.run() == (0, '', '')
    assert machine.calls().count('\n') == 1  # it asked for the version
    # moved: only this package is installed again
    machine.repo = machine.repo.rename(machine.path / 'moved')
    assert machine.run()[0] == 0
    assert '-e .' in machine.calls() and ' -r ' not in machine.calls()
    # other pins: no new environment
    pins = machine.repo / 'requirements/onedl.txt'
    pins.write_text(pins.read_text().replace('six==1', 'six==2'))
    assert machine.run()[0] == 0
    assert ' -r ' in machine.calls() and '-m venv' not in machine.calls()
    # another Python: a new one
    (machine.path / 'version').write_text('3.12')
    assert 'removing .venv, which is not of Python 3.12' in machine.run()[1]
    assert machine.run('openmmlab')[0] == 1  # which is for 3.10 and 3.11


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_pip_is_at_work(machine, number):
    """Half an environment is removed, at once or by the next call."""
    (machine.path / 'wait').touch()
    process = machine.start()
    while '--no-deps' not in machine.calls():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err == 'setup: interrupted; run this again to go on\n'
        assert not machine.venv.exists()
    (machine.path / 'wait').unlink()
    code, out, err = machine.run()
    assert (code, err) == (0, '')
    assert '-m venv' in machine.calls()
    assert ('which is unfinished' in out) == (number == signal.SIGKILL)
    assert (machine.venv / '.mmba2m-ready').exists()


def test_one_line_tells_what_is_wrong(machine):
    for version, args, env, message in (
        ('3.11', ['torch'], {}, "unknown STACK 'torch'"),
        ('3.11', [], dict(PYTHON='nowhere'), 'nowhere does not run'),
        ('3.11', [], dict(CXX='false'), 'no C++17 compiler (false)'),
        ('3.9', [], {}, 'needs Python 3.10 to 3.12, but '),
        ('3.12', ['openmmlab'], {}, 'needs Python 3.10 to 3.11'),
    ):
        (machine.path / 'version').write_text(version)
        assert message in machine.fails(*args, **env)
    (machine.path / 'Python.h').unlink()
    assert 'apt install python3.12-dev' in machine.fails()


def test_without_a_home_nothing_comes_from_a_shared_folder(machine):
    """There anybody could have put the wheel that is installed."""
    assert 'HOME is not set' in machine.fails(HOME='')
    machine.run()
    assert machine.run(HOME='') == (0, '', '')  # nothing to do
    shutil.rmtree(machine.venv)
    cache = machine.path / 'own'
    assert machine.run(HOME='', XDG_CACHE_HOME=str(cache))[0] == 0
    assert (cache / 'mmba2m/setup-onedl.log').exists()


@pytest.mark.slow
def test_no_network(machine):
    """With the real Python and its pip, whose index refuses."""
    err = machine.fails(
        PYTHON=os.path.realpath(sys.executable),
        PIP_INDEX_URL='http://127.0.0.1:9/simple',
        PIP_CONFIG_FILE=os.devnull,
        CXX='c++',
    )
    assert 'pip cannot reach its package index' in err
    log = re.search(r'\((/.+)\)', err).group(1)
    assert '127.0.0.1' in Path(log).read_text()


def requirements(name):
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] != '#']


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_pins_meet_the_direct_requirements(stack):
    """One pin per package and Python, and it is what setup.py asks for."""
    for python in ('3.10', '3.11', '3.12'):
        env = {'python_version': python, 'python_full_version': python + '.9'}
        env |= {'sys_platform': 'linux', 'platform_machine': 'x86_64'}
        pins = {}
        for pin in requirements(f'{stack}.txt'):
            (specifier,) = pin.specifier
            assert specifier.operator in ('==', '==='), pin
            assert '*' not in specifier.version, pin
            if pin.marker is None or pin.marker.evaluate(env):
                assert pin.name not in pins
                pins[pin.name] = specifier.version
        for name in (f'{stack}.in', 'runtime.txt', 'tests.txt'):
            for requirement in requirements(name):
                assert requirement.specifier.contains(pins[requirement.name])
    # installing it into an environment with mmdet must replace nothing
    for requirement in requirements('runtime.txt'):
        assert not requirement.specifier
        assert not re.match('(onedl-)?mm', requirement.name)


@pytest.mark.slow
def test_wheel_carries_what_mim_looks_for(tmp_path):
    source = tmp_path / 'source'
    ignore = shutil.ignore_patterns('.mim', '__pycache__')
    for folder in ('mmba2m', 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in ('setup.py', 'pyproject.toml', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    (source / 'model-index.yml').touch()
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-index']
    command += ['--no-deps', '--no-build-isolation', '-w', tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob('mmba2m-*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    config = 'configs/faster_rcnn/faster-rcnn_ba2m-r50_fpn_2x_coco.py'
    for name in ('model-index.yml', 'tools/train.py', config):
        assert f'mmba2m/.mim/{name}' in names
    assert not (source / 'mmba2m/.mim').exists()
