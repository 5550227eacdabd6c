"""tools/misc/setup_env.sh, offline: a fake Python stands in for pip."""

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
STACKS = {'onedl': '.venv', 'openmmlab': '.venv-openmmlab'}
COMMANDS = (
    'awk bash cat cksum cmp cp df dirname echo flock grep head mkdir mktemp '
    'mv nproc rm sed sleep tail touch uname'
)

# Answers what the script asks of Python and pip, and notes every call. A call
# that matches the file `fails` prints that file's other lines and fails; one
# that matches `hangs` waits for the signal of the test.
PYTHON = r"""#!/bin/bash
trap 'exit 1' INT
fake=$(dirname "$FAKE_LOG")
echo "$*" >>"$FAKE_LOG"
if [[ -e $fake/fails && "$*" == *$(head -n1 "$fake/fails")* ]]; then
    tail -n+2 "$fake/fails" >&2
    exit 1
fi
if [[ -e $fake/hangs && "$*" == *$(head -n1 "$fake/hangs")* ]]; then
    touch "$fake/hanging"
    sleep 60
fi
case "$*" in
    *version_info*)
        cat "$(dirname "$0")/version" 2>&- || cat "$fake/version" ;;
    *sysconfig*) echo "$fake" ;;
    '-m venv '*)
        mkdir -p "$3/bin"
        cp "$0" "$3/bin/python"
        cp "$fake/version" "$3/bin" ;;
    *' wheel '*)
        echo '  [7/70] c++ -c nms.cpp'
        while [ "$1" != -w ]; do shift; done
        tag=cp$(sed 's/\.//' "$fake/version")
        touch "$2/$(echo "${3/-/_}" | sed 's/==/-/')-$tag-$tag-any.whl" ;;
    *.whl) touch "$(dirname "$0")/ops" ;;
    '- '*) [ -e "$(dirname "$0")/ops" ] ;;
esac
"""


class Machine:
    """A copy of the repository's script on a machine of known programs."""

    def __init__(self, path):
        self.repo = path / 'my repo'
        self.bin = path / 'bin'
        self.cache = path / 'my cache'
        self.log = path / 'fake/calls'
        for folder in (self.repo / 'tools/misc', self.bin, self.log.parent):
            folder.mkdir(parents=True)
        for name in ('tools/misc/setup_env.sh', 'setup.py'):
            shutil.copy(ROOT / name, self.repo / name)
        shutil.copytree(ROOT / 'requirements', self.repo / 'requirements')
        for name in COMMANDS.split():
            (self.bin / name).symlink_to(shutil.which(name))
        self.add('python3', PYTHON)
        self.add('c++', '#!/bin/bash\ncat >/dev/null\n')
        self.tell('version', '3.11')
        self.tell('Python.h', '')

    def add(self, name, text):
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def tell(self, name, text):
        (self.log.parent / name).write_text(text)

    def start(self, *args, **env):
        env = {
            'PATH': str(self.bin),
            'HOME': '/nowhere',
            'XDG_CACHE_HOME': str(self.cache),
            'FAKE_LOG': str(self.log),
            **env,
        }
        return subprocess.Popen(
            [self.bin / 'bash', self.repo / 'tools/misc/setup_env.sh', *args],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a test run in the background may itself ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *args, **env):
        self.log.unlink(missing_ok=True)
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def calls(self):
        return self.log.read_text() if self.log.exists() else ''

    def fails(self, *args, **env):
        """Runs it, checks the failure's form, returns the message."""
        code, _, err = self.run(*args, **env)
        assert code != 0
        assert err.startswith('setup: error: ')
        assert err.count('\n') == 1
        return err

    def left_behind(self):
        """What a failed run must not leave: environments, half a wheel."""
        return [
            *self.repo.glob('.venv*'),
            *self.repo.glob('*.egg-info'),
            *self.cache.rglob('build.*'),
            *self.cache.rglob('*.whl'),
        ]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize('stack', STACKS)
def test_sets_up_once(machine, stack):
    venv = machine.repo / STACKS[stack]
    code, out, err = machine.run(stack)
    assert (code, err) == (0, '')
    assert "building mmcv's ops 7/70" in out
    assert len(list(machine.cache.rglob('*.whl'))) == 1
    assert '--no-deps --no-build-isolation -e .' in machine.calls()
    assert list(machine.repo.glob('.venv*')) == [venv]

    assert machine.run(stack) == (0, '', '')
    assert machine.calls().count('\n') == 1  # it asked for the version


def test_default_is_onedl(machine):
    assert machine.run()[0] == 0
    assert (machine.repo / '.venv').exists()


def test_wheel_is_kept_for_the_next_environment(machine):
    machine.run()
    shutil.rmtree(machine.repo / '.venv')
    (machine.bin / 'c++').unlink()
    assert machine.run()[0] == 0
    assert ' wheel ' not in machine.calls()


def test_changed_pins_are_installed(machine):
    machine.run()
    pins = machine.repo / 'requirements/onedl.txt'
    pins.write_text(pins.read_text().replace('six==1', 'six==2'))
    code, _, _ = machine.run()
    assert code == 0
    assert '-m venv' not in machine.calls()
    assert '--no-deps --no-build-isolation -r' in machine.calls()


def test_moved_repository_is_installed_again(machine):
    machine.run()
    machine.repo = machine.repo.rename(machine.repo.with_name('moved'))
    code, _, _ = machine.run()
    assert code == 0
    assert '-e .' in machine.calls()
    assert ' -r ' not in machine.calls()


def test_other_python_makes_another_environment(machine):
    machine.run()
    machine.tell('version', '3.12')
    machine.add('python3.12', PYTHON)
    code, out, _ = machine.run(PYTHON='python3.12')
    assert code == 0
    assert 'removing .venv, which is not of Python 3.12' in out


def test_environment_made_by_hand_is_completed_not_replaced(machine):
    python = machine.repo / '.venv/bin/python'
    python.parent.mkdir(parents=True)
    shutil.copy(machine.bin / 'python3', python)
    (python.parent / 'ops').touch()
    mine = machine.repo / '.venv/mine'
    mine.touch()
    code, _, _ = machine.run()
    assert code == 0
    assert mine.exists()
    assert '-m venv' not in machine.calls()
    assert ' wheel ' not in machine.calls()


def test_unknown_stack(machine):
    assert "unknown STACK 'tensorflow'" in machine.fails('tensorflow')
    assert machine.left_behind() == []


@pytest.mark.parametrize(
    ('stack', 'version'),
    [('onedl', '3.9'), ('onedl', '3.13'), ('openmmlab', '3.12')],
)
def test_python_out_of_range(machine, stack, version):
    machine.tell('version', version)
    err = machine.fails(stack)
    assert f'needs Python 3.10 to 3.1{2 if stack == "onedl" else 1}' in err
    assert f'python3 is {version}' in err
    assert machine.left_behind() == []


def test_python_absent(machine):
    (machine.bin / 'python3').unlink()
    assert 'there is none' in machine.fails()
    assert machine.left_behind() == []


def test_named_python_does_not_run(machine):
    err = machine.fails(PYTHON='python3.12')
    assert 'python3.12 does not run' in err
    assert machine.left_behind() == []


def test_shim_without_python_is_passed_over(machine):
    machine.add('python3', '#!/bin/bash\nexit 127\n')
    machine.add('python3.11', PYTHON)
    assert machine.run()[0] == 0
    assert (machine.repo / '.venv').exists()


def test_python_without_ensurepip(machine):
    machine.tell('fails', 'import ensurepip\n')
    assert 'apt install python3.11-venv' in machine.fails()
    assert machine.left_behind() == []


def test_no_compiler(machine):
    (machine.bin / 'c++').unlink()
    assert 'no C++17 compiler' in machine.fails()
    assert machine.left_behind() == []
    assert '-m venv' not in machine.calls()


def test_no_python_headers(machine):
    (machine.log.parent / 'Python.h').unlink()
    assert 'apt install python3.11-dev' in machine.fails()
    assert machine.left_behind() == []


def test_no_disk(machine):
    line = '/dev/vda 99999999 9999999 5242880 99% /\n'
    machine.add('df', f'#!/bin/bash\necho Header\necho -n "{line * 3}"\n')
    err = machine.fails()
    assert 'too little disk: 5 GB free on /, 12 needed' in err
    assert machine.left_behind() == []
    assert '-m venv' not in machine.calls()


def test_no_network(machine):
    """With the real Python and its pip, whose index refuses."""
    python = os.path.realpath(sys.executable)
    machine.add('python3', f'#!/bin/bash\nexec "{python}" "$@"\n')
    index = 'http://127.0.0.1:9/simple'
    err = machine.fails(PIP_INDEX_URL=index, PIP_CONFIG_FILE=os.devnull)
    assert 'pip cannot reach its package index' in err
    log = re.search(r'\((/.+)\)', err).group(1)
    assert '127.0.0.1' in Path(log).read_text()
    assert machine.left_behind() == []


def test_disk_fills_up(machine):
    machine.tell('fails', '-r /dev\n[Errno 28] No space left on device\n')
    assert 'the disk is full' in machine.fails()
    assert machine.left_behind() == []


def test_failed_build_goes_on_from_there(machine):
    machine.tell('fails', ' wheel \nnms.cpp:3: error: boom\nmore\n')
    err = machine.fails()
    assert "mmcv's ops did not build: nms.cpp:3: error: boom" in err
    assert machine.left_behind() == [machine.repo / '.venv']

    (machine.log.parent / 'fails').unlink()
    assert machine.run()[0] == 0
    assert '-m venv' not in machine.calls()
    assert ' -r ' not in machine.calls()


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize('kept', [False, True])
def test_interrupted(machine, kept):
    """Packages half in are removed, those of a finished stage are kept."""
    machine.tell('hangs', ' wheel ' if kept else '--no-deps')
    process = machine.start()
    wait_for((machine.log.parent / 'hanging').exists)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == 'setup: interrupted; run this again to go on\n'
    assert machine.left_behind() == [machine.repo / '.venv'] * kept

    (machine.log.parent / 'hangs').unlink()
    assert machine.run()[0] == 0
    assert ('-m venv' in machine.calls()) != kept


def test_waits_for_an_interrupted_one_and_starts_anew(machine):
    """The environment that it saw at its start is gone then."""
    machine.tell('hangs', '--no-deps')
    first = machine.start()
    wait_for((machine.log.parent / 'hanging').exists)
    (machine.log.parent / 'hangs').unlink()
    second = machine.start()
    assert 'waiting for another setup' in second.stdout.readline()
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=30)
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, '')
    assert (machine.repo / '.venv/.mmba2m-ready').exists()


def test_killed_while_pip_was_at_work(machine):
    machine.run()
    (machine.repo / '.venv/.mmba2m-unfinished').touch()
    code, out, _ = machine.run()
    assert code == 0
    assert 'removing .venv, which is unfinished' in out
    assert '-m venv' in machine.calls()


def requirements(name):
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [
        Requirement(line)
        for line in lines
        if line.strip() and not line.startswith('#')
    ]


@pytest.mark.parametrize('stack', STACKS)
def test_every_package_is_pinned(stack):
    for requirement in requirements(f'{stack}.txt'):
        (specifier,) = requirement.specifier
        assert specifier.operator in ('==', '==='), requirement
        assert '*' not in specifier.version, requirement


@pytest.mark.parametrize('stack', STACKS)
@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12'])
def test_pins_meet_the_direct_requirements(stack, python):
    """One pin per package and Python, and it is what setup.py asks for."""
    env = {'python_version': python, 'python_full_version': python + '.9'}
    env |= {'sys_platform': 'linux', 'platform_machine': 'x86_64'}
    pins = {}
    for pin in requirements(f'{stack}.txt'):
        if pin.marker is None or pin.marker.evaluate(env):
            assert pin.name not in pins
            (specifier,) = pin.specifier
            pins[pin.name] = specifier.version
    for name in (f'{stack}.in', 'runtime.txt', 'tests.txt'):
        for requirement in requirements(name):
            assert requirement.specifier.contains(pins[requirement.name])


def test_package_asks_for_nothing_of_a_stack():
    """Installing it into an environment with mmdet must replace nothing."""
    for requirement in requirements('runtime.txt'):
        assert not requirement.specifier
        assert not re.match('(onedl-)?mm', requirement.name)


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
