"""tools/misc/setup_env.sh, and the sets of packages that it installs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
#: a Python whose pip has no index to ask
REFUSED = dict(
    PYTHON=os.path.realpath(sys.executable),
    PIP_INDEX_URL='http://127.0.0.1:9/simple',
    PIP_CONFIG_FILE=os.devnull,
    UV_OFFLINE='1',
    UV_NO_CACHE='1',
)


@pytest.fixture
def repo(tmp_path):
    """A copy of what the script reads, in a folder with a space."""
    repo = tmp_path / 'my repo'
    for folder in ('tools/misc', 'requirements'):
        shutil.copytree(ROOT / folder, repo / folder)
    shutil.copy(ROOT / 'setup.py', repo)
    return repo


def start(repo, *args, **env):
    return subprocess.Popen(
        ['bash', repo / 'tools/misc/setup_env.sh', *args],
        env=dict(PATH=os.environ['PATH'], HOME=str(repo.parent)) | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run in the background may itself ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def fail(repo, *args, **env):
    """Runs it and returns both streams; nothing is left behind."""
    process = start(repo, *args, **env)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith('setup: error: ') and err.count('\n') == 1
    assert not [*repo.glob('.venv*')]
    return out, err


def test_one_line_tells_what_is_wrong(repo):
    for args, env, message in (
        (['torch'], {}, "unknown STACK 'torch'"),
        (['onedl', 'torch'], {}, 'no requirements/torch.txt'),
        ([], dict(PYTHON='nowhere'), 'nowhere does not run'),
        ([], dict(CXX='false'), 'no C++17 compiler (false)'),
        # whose cache could be anybody's, with anybody's wheel in it
        ([], dict(HOME=''), 'HOME is not set'),
    ):
        assert message in fail(repo, *args, **(REFUSED | env))[1]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_half_an_environment_is_removed(repo, number):
    """At once or by the next call, which has no network here."""
    process = start(repo, **REFUSED)
    while not (repo / '.venv/.mmba2m-unfinished').exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err == 'setup: interrupted; run this again to go on\n'
    assert (repo / '.venv').exists() == (number == signal.SIGKILL)
    out, err = fail(repo, **REFUSED)
    assert ('which is unfinished' in out) == (number == signal.SIGKILL)
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


def test_only_commands_that_are_run_here_too():
    """The container and the workflow run what `make` does."""
    makefile = (ROOT / 'Makefile').read_text()
    targets = re.findall(r'^([a-z-]+):.*##', makefile, re.M)
    text = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
    runs = re.findall(r'^RUN (?:--\S+ )?(.+)', text, re.M)
    assert len(runs) == 4
    path = ROOT / '.github/workflows/ci.yml'
    jobs = yaml.safe_load(path.read_text())['jobs']
    runs += [
        x['run'] for job in jobs.values() for x in job['steps'] if 'run' in x
    ]
    for run in runs:
        program, word, *_ = run.split()
        if program == 'make':
            assert word in targets
        elif program == 'bash':
            assert word == 'tools/misc/setup_env.sh' and word in makefile
        else:
            assert program in ('apt-get', 'pipx')
    script = (ROOT / 'tools/misc/setup_env.sh').read_text()
    assert (
        jobs['test']['strategy']['matrix']['python']
        == re.search("onedl\\) .*versions='(.+)'", script)[1].split()
    )
