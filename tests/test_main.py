"""The report on environments that are whole, broken and crashing."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mmba2m import HOSTS, __main__, stack

ROOT = Path(stack.__file__).parents[1]
OPENMMLAB = dict(torch='2.1.2+cu121', mmengine='0.10.7', mmcv='2.1.0')
OPENMMLAB.update(mmdet='3.3.0', mmpretrain='1.2.0')
YES = 'yes', ''


def run(tmp_path, **files):
    """Runs ``python -m mmba2m`` in a folder with these modules."""
    for name, text in files.items():
        (tmp_path / f'{name}.py').write_text(text)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, '-m', 'mmba2m'],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=path, CUDA_VISIBLE_DEVICES='-1'),
        capture_output=True,
        text=True,
    )


def rows(text):
    table = [line for line in text.splitlines() if line.startswith('|')][2:]
    cells = ([x.strip() for x in line.split('|')[1:4]] for line in table)
    return {feature: (works, why) for feature, works, why in cells}


@pytest.mark.slow
def test_this_environment(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0 and not done.stderr
    for line in (
        f'- hosts of mmba2m: {" ".join(HOSTS)}\n',
        "- mmcv's ops: work on cpu - CUDA ",
        f'- torch: torch {metadata.version("torch")}; from ',
        'PyTorch: ',
    ):
        assert line in done.stdout
    found = rows(done.stdout)
    assert found['detection'] == found['classification'] == YES


def test_a_stack_that_does_not_import(tmp_path):
    """One file of that name shadows torch, and ends whatever imports it."""
    done = run(tmp_path, torch='import os; os.kill(os.getpid(), 9)')
    assert done.returncode == 1 and not done.stderr
    assert "- mmcv's ops: broken, ends Python by SIGKILL\n" in done.stdout
    assert f'; from {tmp_path}/torch.py\n' in done.stdout
    found = rows(done.stdout)
    no = 'no', 'ends Python by SIGKILL'
    assert found['detection'] == found['classification'] == no


@pytest.mark.parametrize(
    ('code', 'expected'),
    [
        ('print("noise"); print("fine")', (True, 'fine')),
        ('raise OSError("no more")', (False, 'OSError: no more')),
        ('import os; os._exit(7)', (False, 'ends Python with 7')),
        ('import time; time.sleep(60)', (False, 'takes more than 1 s')),
    ],
)
def test_how_a_check_ends(monkeypatch, code, expected):
    monkeypatch.setattr(__main__, 'CHECKS', dict(check=code))
    monkeypatch.setattr(__main__, 'TIMEOUT', 1)
    assert __main__.run_checks() == dict(check=expected)


# What is said, of environments that are made up


@pytest.fixture
def main(monkeypatch, capsys):
    """Runs the report where exactly these distributions are installed."""

    def main(versions, **checks):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        found = {'environment': (True, 'GPU 0: A card')}
        found["mmcv's ops"] = True, 'work on cpu'
        found['hosts of mmba2m'] = True, 'mmdet mmpretrain'
        monkeypatch.setattr(metadata, 'version', version)
        monkeypatch.setattr(stack, 'has_ops', lambda: True)
        monkeypatch.setattr(
            __main__, 'run_checks', lambda: {**found, **checks}
        )
        status = __main__.main([])
        text = capsys.readouterr().out
        features = rows(text)
        return status, text, features['detection'], features['classification']

    return main


def missing(name):
    wanted = stack.SUPPORTED[name][1]
    return 'no', f'{name} is not installed, {name}{wanted} is needed'


@pytest.mark.parametrize(
    ('left_out', 'status', 'features'),
    [
        # a host that is missing is no error, unless there is no other
        (['mmpretrain'], 0, [YES, missing('mmpretrain')]),
        (stack.HOSTS, 1, [missing(host) for host in stack.HOSTS]),
        (['mmengine'], 1, [missing('mmengine')] * 2),
    ],
)
def test_what_is_missing(main, left_out, status, features):
    versions = {k: v for k, v in OPENMMLAB.items() if k not in left_out}
    found, _, *rest = main(versions)
    assert (found, rest) == (status, features)


def test_what_is_broken_is_an_error(main):
    ops = {"mmcv's ops": (False, 'OSError: undefined symbol')}
    status, text, *features = main(OPENMMLAB, **ops)
    assert status == 1
    assert "- mmcv's ops: broken, OSError: undefined symbol\n" in text
    assert features == [('no', 'OSError: undefined symbol'), YES]
    assert '- environment: GPU 0: A card\n' in text
    assert '- torch: torch 2.1.2+cu121; from ' in text


def test_mixed_stacks_and_extras(main, monkeypatch):
    find = __main__.find_spec
    monkeypatch.setattr(
        __main__, 'find_spec', lambda x: x != 'onnxruntime' and find(x)
    )
    monkeypatch.setattr(__main__.Path, 'home', lambda: ROOT)
    text = main({**OPENMMLAB, 'onedl-mmcv': '2.3.6'})[1]
    both = 'onedl-mmcv 2.3.6 and mmcv 2.1.0, which overwrite each other'
    assert f'- mmcv: {both}; from ' in text
    hint = 'onnxruntime: pip install "mmba2m[export]"'
    assert rows(text)['export to ONNX'] == ('no', hint)
    assert str(ROOT) not in text
