"""Trains the variants of studies with all their seeds, and keeps records.

Each run is tools/train.py, as a user calls it, in a process of its own. A
study can be stopped at any time, and started again it goes on where it was;
what is finished is skipped, and what another process runs is left to it.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from study import ROOT, describe_training, load_study, record_path

from mmba2m.checkpoints.benchmark.environment import describe_environment
from mmba2m.checkpoints.files import atomic_write
from mmba2m.checkpoints.resume import find_checkpoint

DONE, FAILED, ELSEWHERE, STOPPED = 'done', 'failed', 'elsewhere', 'stopped'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'studies', nargs='+', type=Path, help='study files, in their order'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='runs at a time, 1 by default'
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=1,
        help='threads of each run, 1 by default; with another number the '
        'last digits differ',
    )
    parser.add_argument(
        '--results',
        type=Path,
        default=ROOT / 'docs/studies',
        help='folder of the records, docs/studies by default',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs/studies',
        help='folder for logs and checkpoints, work_dirs/studies by default',
    )
    parser.add_argument(
        '--list',
        action='store_true',
        help='say what is finished and what is running, and run nothing',
    )
    return parser.parse_args()


class Run:
    """One variant with one seed.

    Args:
        study (Study): The study.
        variant (Variant): The variant.
        seed (int): The seed.
        args (argparse.Namespace): Of the command line.
    """

    def __init__(self, study, variant, seed, args):
        self.study = study
        self.variant = variant
        self.seed = seed
        self.threads = args.threads
        self.record = record_path(args.results, study, variant, seed)
        name = Path(study.name, variant.name, f'seed{seed}')
        self.work_dir = Path(args.work_dir, name).resolve()
        self.log = self.work_dir / 'run.log'

    def __str__(self):
        return f'{self.study.name}, {self.variant.name}, seed {self.seed}'

    @contextmanager
    def lock(self):
        """Yields a locked file, or None where another process has it.

        The processes of the run inherit it: if only this one is killed, they
        go on, and the run stays locked until they end.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        with (self.work_dir / 'lock').open('w') as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield stream

    def execute(self, call):
        """Trains, evaluates and writes the record.

        Args:
            call (Callable): Runs a tool of this repository with a list of
                arguments.
        """
        started = self._note_start()
        seed = [f'randomness.seed={self.seed}']
        options = seed + format_options(self.variant.options)
        config = self.variant.config
        if self.study.start:
            start = self.work_dir / 'start.pth'
            if not start.is_file():
                call(
                    'tools/studies/shared_start.py',
                    *(config, self.study.start, start, '--seed', self.seed),
                    *('--cfg-options', *options),
                )
            options.append(f'load_from={start}')
        trained = self.work_dir / 'trained'
        if not trained.is_file():
            call(
                *('tools/train.py', config, '--resume'),
                *('--work-dir', self.work_dir),
                *('--cfg-options', *options),
            )
            trained.touch()
        names = [metric.name for metric in self.study.metrics]
        by_step = read_validations(self.work_dir, names)
        record = dict(
            study=self.study.name,
            variant=self.variant.name,
            seed=self.seed,
            **started,
            metrics={
                name: by_step[name][max(by_step[name])] for name in names
            },
            by_step=by_step,
            evaluations={
                name: self._evaluate(name, names, call)
                for name in self.variant.evaluations
            },
        )
        self.record.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        with atomic_write(self.record) as stream:
            stream.write(text.encode() + b'\n')
        if self.seed != self.study.keep_seed:
            for path in self.work_dir.glob('*.pth'):
                path.unlink()

    def _note_start(self):
        """What the run was started with, also if it goes on with another."""
        path = self.work_dir / 'started.json'
        training = describe_training(self.study, self.variant)
        if not path.is_file():
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
            found = describe_environment(torch.device(device))
            # the day, and the variables of this process
            environment = {
                key: value
                for key, value in found.items()
                if key != 'date' and not key.isupper()
            }
            environment['threads'] = self.threads
            text = json.dumps(dict(training, environment=environment))
            with atomic_write(path) as stream:
                stream.write(text.encode())
        started = json.loads(path.read_text(encoding='utf-8'))
        if {key: started[key] for key in training} != training:
            raise ValueError(
                f'{self.work_dir} has the beginning of another run, with '
                f'{started}: delete it'
            )
        return started

    def _evaluate(self, name, metrics, call):
        folder = self.work_dir / 'evaluations' / name
        found = read_tests(folder, metrics)
        if found is None:
            options = {
                **self.variant.options,
                **self.study.evaluations[name]['options'],
            }
            call(
                *('tools/test.py', self.variant.config),
                *(find_checkpoint(self.work_dir), '--work-dir', folder),
                *('--cfg-options', f'randomness.seed={self.seed}'),
                *format_options(options),
            )
            found = read_tests(folder, metrics)
        return found


class Runner:
    """Works off runs, several at a time.

    Args:
        runs (Sequence[Run]): In their order.
        jobs (int): How many at a time.
    """

    def __init__(self, runs, jobs):
        self.runs = runs
        self.jobs = jobs
        self.processes = set()
        self.lock = threading.Lock()
        self.stopping = False

    def work(self):
        """Runs what is not finished.

        Returns:
            dict[Run, str]: What became of each run.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._try, run) for run in self.runs]
            try:
                outcomes = [future.result() for future in futures]
            except BaseException:
                self.stop()
                raise
        return dict(zip(self.runs, outcomes, strict=True))

    def stop(self):
        """Ends the processes that run, and starts no others."""
        with self.lock:
            self.stopping = True
            for process in self.processes:
                process.terminate()

    def _try(self, run):
        if run.record.is_file():
            return DONE
        if self.stopping:
            return STOPPED
        with run.lock() as lock:
            if lock is None:
                self._say(f'{run}: another process runs it')
                return ELSEWHERE
            if run.record.is_file():
                return DONE
            self._say(f'{run}: start')
            try:
                run.execute(lambda *args: self._call(run, lock, args))
            except Exception as error:
                if self.stopping:
                    return STOPPED
                self._say(f'{run}: FAILED, see {run.log}: {error}')
                return FAILED
        record = json.loads(run.record.read_text(encoding='utf-8'))
        values = ', '.join(f'{k} {v:g}' for k, v in record['metrics'].items())
        self._say(f'{run}: {values}')
        return DONE

    def _call(self, run, lock, args):
        threads = str(run.threads)
        env = dict(os.environ, OMP_NUM_THREADS=threads)
        env['MKL_NUM_THREADS'] = threads
        with run.log.open('a') as log, self.lock:
            if self.stopping:
                raise RuntimeError('stopped')
            process = subprocess.Popen(
                [sys.executable, *map(str, args)],
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
            )
            self.processes.add(process)
        code = process.wait()
        with self.lock:
            self.processes.remove(process)
        if code:
            lines = run.log.read_text(errors='replace').strip().splitlines()
            last = lines[-1] if lines else 'no output'
            raise RuntimeError(f'{args[0]} ended with {code}: {last}')

    def _say(self, text):
        # at once, as several threads print
        print(f'{text}\n', end='', flush=True)


def format_options(options):
    """Writes options as ``--cfg-options`` reads them.

    Args:
        options (dict): Values by key.

    Returns:
        list[str]: KEY=VALUE.
    """
    return [f'{key}={format_value(value)}' for key, value in options.items()]


def format_value(value):
    """Writes a value as ``--cfg-options`` reads it."""
    if isinstance(value, list):
        return f'[{",".join(map(format_value, value))}]'
    return str(value)


def read_validations(work_dir, metrics):
    """Reads the validations of a training from its logs.

    Args:
        work_dir (Path): Of MMEngine's Runner, resumed or not.
        metrics (Sequence[str]): The metrics to read.

    Returns:
        dict[str, dict[int, float]]: For each metric its value by epoch (or
        by iteration, where the training counts these).

    Raises:
        ValueError: If a metric was never logged.
    """
    found = {name: {} for name in metrics}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            try:
                scalars = json.loads(line)
            except json.JSONDecodeError:  # killed while it was written
                continue
            for name in metrics:
                if name in scalars:
                    value = round(scalars[name], 6)
                    found[name][scalars['step']] = value
    for name, values in found.items():
        if not values:
            raise ValueError(f'{work_dir}: no validation has {name!r}')
    return {name: dict(sorted(v.items())) for name, v in found.items()}


def read_tests(work_dir, metrics):
    """Reads what tools/test.py has logged.

    Args:
        work_dir (Path): Its work dir.
        metrics (Sequence[str]): The metrics to read.

    Returns:
        dict[str, float] | None: The metrics; None where there is no result.
    """
    for file in sorted(work_dir.glob('*/*.json'), reverse=True):
        try:
            found = json.loads(file.read_text(encoding='utf-8'))
            return {name: round(found[name], 6) for name in metrics}
        except (json.JSONDecodeError, KeyError):
            continue
    return None


def check_data(study):
    """Looks for the data of a study.

    Args:
        study (Study): The study.

    Raises:
        FileNotFoundError: If a folder is missing, with the command to get it.
    """
    data = study.data
    if data is None:
        return
    root = Path(ROOT, os.environ.get(data.variable, data.default))
    missing = [name for name in data.folders if not (root / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f'{study.name}: {root} has no {", ".join(missing)}. Get the data '
            f'with\n    {data.get}\nor let {data.variable} name their folder'
        )


def list_state(runs):
    """Says of each run whether it is finished, running or to do."""
    for run in runs:
        state = 'finished'
        if not run.record.is_file():
            with run.lock() as lock:
                state = 'running' if lock is None else 'to do'
        print(f'{state:9s} {run}')


def main():
    args = parse_args()
    studies = [load_study(path) for path in args.studies]
    runs = [
        Run(study, variant, seed, args)
        for study in studies
        for variant, seed in study.list_runs()
    ]
    if args.list:
        list_state(runs)
        return 0
    for study in studies:
        check_data(study)
    runner = Runner(runs, args.jobs)

    def stop(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        outcomes = runner.work()
    except KeyboardInterrupt:
        print('stopped; the same command goes on')
        return 1
    count = {
        state: sum(o == state for o in outcomes.values())
        for state in (DONE, FAILED, ELSEWHERE)
    }
    print(', '.join(f'{count[state]} {state}' for state in count))
    return int(count[DONE] < len(runs))


if __name__ == '__main__':
    sys.exit(main())
