"""The runner of studies, on a toy."""

import json
import os
import signal
import time

import pytest

pytest.importorskip('mmpretrain')


def read(path):
    return json.loads(path.read_text(encoding='utf-8'))


@pytest.fixture
def tools(study_tools):
    return study_tools


def test_record_tells_what_was_trained_and_found(toy, tools, tmp_path):
    path = toy.write(keep_seed=1)
    run = toy.run(tools, path, 'ba2m')
    record = read(run.record)
    assert run.record == toy.record('ba2m')
    assert record['config'] == record['start'] == str(toy.config)
    assert record['options'] == {
        'model.backbone.ba2m_stages': [True, False, True, True]
    }
    by_step = record['by_step']['accuracy/top1']
    assert list(by_step) == ['1', '2', '3']
    assert record['metrics'] == {'accuracy/top1': by_step['3']}
    # of 12 images
    for value in (
        *by_step.values(),
        record['evaluations']['off'].popitem()[1],
    ):
        assert round(value * 12 / 100, 4).is_integer()
    assert record['environment']['threads'] == 1
    assert 'mmengine' in ' '.join(record['environment'])
    del record['config'], record['start']  # of this test, not of the tool
    assert str(tmp_path) not in json.dumps(record)
    # weights of this seed are not kept
    assert not list(run.work_dir.glob('*.pth'))
    assert toy.calls == [
        'tools/studies/shared_start.py',
        'tools/train.py',
        'tools/test.py',
    ]


def test_killed_run_goes_on_and_ends_as_one_left_alone(toy, tools, capfd):
    path = toy.write(start=None, keep_seed=0)
    module = tools['run']
    study = tools['study'].load_study(path)
    run = module.Run(study, study.variants['ba2m'], 0, toy.arguments(path))
    plain = toy.record('plain')
    plain.parent.mkdir(parents=True)
    plain.write_text('{"metrics": {}}')  # finished already

    process = toy.start(path)
    try:
        while process.poll() is None and not list(
            run.work_dir.glob('epoch_*.pth')
        ):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        # its training is still there: nobody else may begin with it
        with run.lock() as lock:
            assert lock is None
        runner = module.Runner([run], 1)
        assert runner.work() == {run: module.ELSEWHERE}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    while True:
        with run.lock() as lock:
            if lock is not None:
                break
        time.sleep(0.01)
    assert not run.record.is_file()
    assert not (run.work_dir / 'trained').exists()

    run.execute(toy.call)
    assert 'resumed epoch' in capfd.readouterr()[0]
    whole = toy.run(tools, path, 'ba2m', results=toy.folder / 'whole')
    assert whole.record != run.record
    records = read(whole.record), read(run.record)
    for record in records:  # somebody may commit while this runs
        del record['environment']['commit']
    assert records[0] == records[1]
    assert len(records[0]['by_step']['accuracy/top1']) == 3
    assert (run.work_dir / 'epoch_3.pth').is_file()  # of the seed to keep


def test_finished_runs_are_skipped_and_a_failing_one_stops_no_other(
    toy, tools, monkeypatch, capsys
):
    path = toy.write(
        variants=dict(
            plain=None, bad=None, slow=None, last=None, finished=None
        )
    )
    module = tools['run']
    study = tools['study'].load_study(path)
    args = toy.arguments(path)
    runs = {
        variant.name: module.Run(study, variant, seed, args)
        for variant, seed in study.list_runs()
    }
    record = '{"metrics": {"accuracy/top1": 50.0}}'
    done = runs['finished'].record
    done.parent.mkdir(parents=True)
    done.write_text(record)
    ran = []

    def execute(self, call):
        ran.append(self.variant.name)
        if self.variant.name == 'bad':
            call('-c', 'print("what broke"); raise SystemExit(3)')
        self.record.parent.mkdir(parents=True)
        self.record.write_text(record)

    monkeypatch.setattr(module.Run, 'execute', execute)
    outcomes = module.Runner(list(runs.values()), 2).work()
    assert sorted(ran) == ['bad', 'last', 'plain', 'slow']
    assert {run.variant.name: o for run, o in outcomes.items()} == {
        **dict.fromkeys(runs, module.DONE),
        'bad': module.FAILED,
    }
    text = capsys.readouterr().out
    assert 'toy, bad, seed 0: FAILED' in text
    assert '-c ended with 3: what broke' in text
    assert 'toy, last, seed 0: accuracy/top1 50' in text

    # again: what failed is tried again, nothing else
    ran.clear()
    monkeypatch.setattr(
        'sys.argv',
        [
            *('run.py', str(path), '--results', str(toy.results)),
            *('--work-dir', str(toy.work_dir)),
        ],
    )
    monkeypatch.setenv('TOY_ROOT', str(toy.folder / 'data'))
    assert module.main() == 1
    assert ran == ['bad']
    assert '4 done, 1 failed, 0 elsewhere' in capsys.readouterr().out
    monkeypatch.setattr('sys.argv', [*module.sys.argv, '--list'])
    assert module.main() == 0
    assert 'to do     toy, bad, seed 0' in capsys.readouterr().out
    assert ran == ['bad']


def test_stop_ends_what_runs(toy, tools, monkeypatch):
    path = toy.write()
    module = tools['run']
    study = tools['study'].load_study(path)
    args = toy.arguments(path)
    runs = [module.Run(study, *pair, args) for pair in study.list_runs()]
    runner = module.Runner(runs, 1)

    def execute(self, call):
        marker = self.work_dir / 'began'
        call(
            '-c',
            f'import time; open({str(marker)!r}, "w"); time.sleep(600)',
        )

    monkeypatch.setattr(module.Run, 'execute', execute)

    def stop_when_it_began():
        while not (runs[0].work_dir / 'began').exists():
            time.sleep(0.005)
        runner.stop()

    thread = module.threading.Thread(target=stop_when_it_began)
    thread.start()
    outcomes = runner.work()
    thread.join()
    assert [*outcomes.values()] == [module.STOPPED, module.STOPPED]
    assert not (runs[1].work_dir / 'began').exists()


def test_beginning_of_another_run_is_refused(toy, tools):
    module = tools['run']

    def note(**changes):
        path = toy.write(**changes)
        study = tools['study'].load_study(path)
        run = module.Run(study, study.variants['plain'], 0, toy.arguments())
        run.work_dir.mkdir(parents=True, exist_ok=True)
        return run._note_start()

    assert note() == note()
    with pytest.raises(ValueError, match='beginning of another run'):
        note(options={'train_cfg.max_epochs': 9})


def test_missing_data_are_told_with_the_command(toy, tools, monkeypatch):
    monkeypatch.setenv('TOY_ROOT', str(toy.folder / 'data/a'))
    study = tools['study'].load_study(toy.write())
    with pytest.raises(FileNotFoundError, match='draw --it') as error:
        tools['run'].check_data(study)
    assert 'has no a, b' in str(error.value)
    assert 'TOY_ROOT' in str(error.value)
    monkeypatch.setenv('TOY_ROOT', str(toy.folder / 'data'))
    tools['run'].check_data(study)


def test_cut_and_repeated_lines_of_a_log(tools, tmp_path):
    for name, lines in (
        ('1', ['{"loss": 1, "step": 5}', '{"a/b": 1.5, "step": 1}', '{"a/']),
        ('2', ['{"a/b": 1.5, "step": 1}', '{"a/b": 0.12345678, "step": 2}']),
    ):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(lines))
    read_validations = tools['run'].read_validations
    assert read_validations(tmp_path, ['a/b']) == {
        'a/b': {1: 1.5, 2: 0.123457}
    }
    with pytest.raises(ValueError, match="no validation has 'a/c'"):
        read_validations(tmp_path, ['a/c'])
