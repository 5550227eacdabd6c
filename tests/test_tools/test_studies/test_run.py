"""The runner of studies, on a toy."""

import json
import os
import runpy
import signal
import sys
import threading
import time
from multiprocessing import get_context

import pytest
import torch
from filelock import FileLock
from mmengine.config import Config
from tool_runs import run_tool

from mmba2m.inspect.complexity import build_on_meta, count_parameters

pytest.importorskip('mmpretrain')

#: what a run of the pool does here instead of training
CHILD = """
import pathlib, sys, time
variant, results = sys.argv[-3], pathlib.Path(sys.argv[1])
(results / variant).touch()
if variant == 'bad':
    sys.exit('before\\nwhat broke')
if variant == 'slow':
    time.sleep(600)
path = results / 'toy' / variant / 'seed0.json'
path.parent.mkdir(parents=True)
path.write_text('{"metrics": {"accuracy/top1": 50.0}}')
print('toy,', variant)
"""


def read(path):
    return json.loads(path.read_text(encoding='utf-8'))


def test_record_tells_what_was_trained_and_found(toy):
    path = toy.draw().write(keep_seed=1)
    text = run_tool('studies/run.py', *toy.args(path, 'ba2m'), env=toy.env)
    record = read(toy.record('ba2m'))
    by_step = record['by_step']['accuracy/top1']
    value = by_step['3']
    assert f'toy, ba2m, seed 0: finished, accuracy/top1 {value:g}' in text
    assert record.pop('config') == record.pop('start') == str(toy.config)
    assert record['options'] == {
        'model.backbone.ba2m_stages': [True, False, True, True]
    }
    assert list(by_step) == ['1', '2', '3']
    assert record['metrics'] == {'accuracy/top1': value}
    off = record['evaluations']['off']['accuracy/top1']
    for found in (*by_step.values(), off):  # of 12 images
        assert round(found * 12 / 100, 3).is_integer()
    assert record['environment']['threads'] == torch.get_num_threads()
    assert 'mmengine' in ' '.join(record['environment'])
    assert 'date' not in record['environment']
    assert str(toy.folder) not in json.dumps(record)
    cost = record['cost']
    assert cost['iteration_seconds'] > 0
    stem = 3 * 9 * 4 * 32**2 + 2 * 4 * 32**2  # convolution and norm
    assert stem < cost['multiply_adds'] < 100 * stem
    cfg = Config.fromfile(toy.config)
    cfg.merge_from_dict(record['options'])
    expected = count_parameters(build_on_meta(cfg))
    assert cost['parameters'] == expected
    # weights of this seed are not kept
    assert not list(toy.work_dir('ba2m').glob('*.pth'))

    before = toy.record('ba2m').stat()  # again: nothing is done
    run_tool('studies/run.py', *toy.args(path, 'ba2m'))
    assert toy.record('ba2m').stat() == before


def _run(argv, env):
    os.environ.update(env)
    sys.argv = ['run.py', *argv]
    sys.path.insert(0, 'tools/studies')
    runpy.run_path('tools/studies/run.py', run_name='__main__')


@pytest.mark.slow
def test_killed_run_goes_on_and_ends_as_one_left_alone(toy):
    path = toy.draw().write(keep_seed=0)
    args = toy.args(path, 'ba2m')
    folder = toy.work_dir('ba2m')
    process = get_context('forkserver').Process(
        target=_run, args=(args, toy.env)
    )
    process.start()
    try:
        while process.is_alive() and not [*folder.glob('epoch_*.pth')]:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGSTOP)
        # it is still there: nobody else may begin with it
        text = run_tool('studies/run.py', *args, env=toy.env, fails=True)
        assert 'another process runs it' in text
        assert 'ba2m, seed 0: running' in run_tool(
            'studies/run.py', *args, '--list'
        )
    finally:
        process.kill()
        process.join()
    assert not toy.record('ba2m').exists()

    text = run_tool('studies/run.py', *args, env=toy.env)
    assert 'resumed epoch' in text
    whole = toy.args(path, 'ba2m', results='whole')
    assert 'resumed' not in run_tool('studies/run.py', *whole, env=toy.env)
    records = [read(toy.record('ba2m', 0, x)) for x in ('results', 'whole')]
    for record in records:  # somebody may commit while this runs
        del record['environment']['commit']
        del record['cost']['iteration_seconds']
    assert records[0] == records[1]
    assert len(records[0]['by_step']['accuracy/top1']) == 3
    assert (folder / 'epoch_3.pth').is_file()  # of the seed to keep


@pytest.fixture
def pool(toy, study_tools, monkeypatch):
    """run.py, whose runs are not trained."""
    module = study_tools['run']
    results = toy.folder / 'results'
    results.mkdir()
    command = [sys.executable, '-c', CHILD, str(results)]
    monkeypatch.setattr(module, 'COMMAND', command)
    return module.main


def test_finished_runs_are_skipped_and_a_failing_one_stops_no_other(
    toy, pool, capsys
):
    names = ['done', 'bad', 'plain', 'last']
    path = toy.write(variants=dict.fromkeys(names))
    done = toy.record('done')
    done.parent.mkdir(parents=True)
    done.write_text('{"metrics": {"accuracy/top1": 40.0}}')
    args = [*toy.args(path), '--jobs', '2']
    assert pool(args) == 1
    text = capsys.readouterr().out
    log = toy.work_dir('bad') / 'run.log'
    assert f'FAILED, see {log}: what broke' in text
    assert (
        'toy, plain, seed 0: start' in text
        and '; 3 of 3, about 0.0 h left\n' in text
    )
    began = {path.name for path in (toy.folder / 'results').glob('*')}
    assert began == {'toy', 'bad', 'plain', 'last'}

    # again: what failed is tried again, nothing else
    for name in ('bad', 'plain', 'last'):
        (toy.folder / 'results' / name).unlink()
    assert pool(args) == 1
    assert not (toy.folder / 'results/plain').exists()
    capsys.readouterr()
    assert pool([*args, '--variant', 'last']) == 0
    text = capsys.readouterr().out
    folder = toy.folder / 'results'
    assert text == f'nothing to do: all 1 have records in {folder}\n'
    with FileLock(toy.work_dir('bad') / 'lock'):
        assert pool([*args, '--list']) == 0
    text = capsys.readouterr().out
    assert 'toy, done, seed 0: finished, accuracy/top1 40' in text
    assert 'toy, bad, seed 0: running' in text
    pool([*args, '--list', '--variant', 'bad'])
    assert capsys.readouterr().out == 'toy, bad, seed 0: to do\n'
    with pytest.raises(ValueError, match='no such run'):
        pool([*args, '--seed', '7'])


def test_stop_ends_what_runs(toy, pool):
    path = toy.write(variants=dict.fromkeys(['slow', 'plain']))

    def stop():
        while not (toy.folder / 'results/slow').exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(SystemExit, match='the same command goes on'):
        pool(toy.args(path))
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert not (toy.folder / 'results/plain').exists()


def test_beginning_of_another_run_is_refused(study_tools, tmp_path):
    note = study_tools['one_run']._note_start
    training = dict(config='a.py', options={'lr': 1}, start=None)
    assert note(tmp_path, training) == note(tmp_path, dict(training))
    with pytest.raises(ValueError, match='beginning of another run'):
        note(tmp_path, dict(training, options={'lr': 2}))


def test_cut_and_repeated_lines_of_a_log(study_tools, tmp_path):
    for name, lines in (
        ('1', ['{"loss": 1, "step": 5}', '{"a/b": 1.5, "step": 1}', '{"a/']),
        ('2', ['{"a/b": 1.5, "step": 1}', '{"a/b": 0.12345678, "step": 2}']),
    ):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(lines))
    read_validations = study_tools['one_run'].read_validations
    assert read_validations(tmp_path, ['a/b']) == {
        'a/b': {1: 1.5, 2: 0.123457}
    }
    with pytest.raises(ValueError, match="no validation has 'a/c'"):
        read_validations(tmp_path, ['a/c'])
