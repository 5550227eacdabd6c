"""Trains the variants of a study with its seeds, and keeps records.

With --variant and --seed, one run, in this process: tools/train.py as a user
calls it, tools/test.py for each evaluation, and the record. However it was
stopped, the same command goes on where it was.

Otherwise all runs that have no record yet, each by such a command. One that
fails stops no other, and one that another process is at is left to it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout
from study import ROOT, Study, Variant, load_study, record_path

COMMAND = [sys.executable, __file__]
#: what a run ends with where another process is at it
ELSEWHERE = 75


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    add = parser.add_argument
    add('study', help='study file')
    add('--variant', help='only this one')
    add('--seed', type=int, help='only this one')
    add('--jobs', type=int, default=1, help='runs at a time, 1 by default')
    text = 'folder of the records, docs/studies by default'
    add('--results', default=ROOT / 'docs/studies', help=text)
    text = 'folder for logs and checkpoints, work_dirs/studies by default'
    add('--work-dir', default=ROOT / 'work_dirs/studies', help=text)
    text = 'say what is finished and what is running, and run nothing'
    add('--list', action='store_true', help=text)
    return parser.parse_args(argv)


@dataclass
class Run:
    """One variant with one seed, its record and its folder."""

    study: Study
    variant: Variant
    seed: int
    record: Path
    work_dir: Path

    def __str__(self):
        return f'{self.study.name}, {self.variant.name}, seed {self.seed}'

    def lock(self) -> FileLock:
        """Locks the run, until this process ends at the latest.

        Raises:
            filelock.Timeout: If another process has it.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        return FileLock(self.work_dir / 'lock').acquire(timeout=0)

    def find_state(self) -> str:
        """Says whether it is finished, running or to do."""
        if self.record.is_file():
            metrics = json.loads(self.record.read_text('utf-8'))['metrics']
            values = [f'{name} {value:g}' for name, value in metrics.items()]
            return f'finished, {", ".join(values)}'
        try:
            with self.lock():
                return 'to do'
        except Timeout:
            return 'running'


def do_run(run: Run) -> int:
    """Does a run in this process, unless it is done already."""
    # the hosts take seconds, which whoever starts runs need not wait
    from one_run import execute

    try:
        with run.lock():
            if not run.record.is_file():
                execute(run)
    except Timeout:
        print(f'{run}: another process runs it')
        return ELSEWHERE
    print(f'{run}: {run.find_state()}')
    return 0


def do_all(runs: list[Run], argv: list[str], jobs: int) -> bool:
    """Does runs in processes of their own, and says whether all are done."""
    processes: list[subprocess.Popen] = []
    stopping = Event()
    started, ended = time.monotonic(), []

    def do(run):
        path = run.work_dir / 'run.log'
        path.parent.mkdir(parents=True, exist_ok=True)
        one = ['--variant', run.variant.name, '--seed', str(run.seed)]
        print(f'{run}: start', flush=True)
        with path.open('a') as log:
            command = [*COMMAND, *argv, *one]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        processes.append(process)
        if stopping.is_set():  # while it was started
            process.terminate()
        code = process.wait()
        if not stopping.is_set():
            last = path.read_text(errors='replace').strip().splitlines()[-1:]
            failed = f'FAILED, see {path}: ' * (code not in (0, ELSEWHERE))
            ended.append(run)
            left = (time.monotonic() - started) / len(ended)
            left *= len(runs) - len(ended)
            print(
                f'{failed}{"".join(last) or run}; {len(ended)} of {len(runs)},'
                f' about {left / 3600:.1f} h left',
                flush=True,
            )
        return code == 0

    with ThreadPoolExecutor(jobs) as threads:
        try:
            return all([*threads.map(do, runs)])
        finally:  # a signal
            stopping.set()
            for process in processes:
                process.terminate()


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    # with others the last digits differ; torch is not imported yet
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    study = load_study(args.study)
    work_dir = Path(args.work_dir, study.name).resolve()
    runs = []
    for variant, seed in study.list_runs():
        if args.variant in (None, variant.name) and args.seed in (None, seed):
            record = record_path(args.results, study, variant, seed).resolve()
            folder = work_dir / variant.name / f'seed{seed}'
            runs.append(Run(study, variant, seed, record, folder))
    if not runs:
        raise ValueError(f'{args.study} has no such run')
    if args.list:
        for run in runs:
            print(f'{run}: {run.find_state()}')
        return 0
    if args.variant is not None and args.seed is not None:
        return do_run(runs[0])
    todo = [run for run in runs if not run.record.is_file()]
    if not todo:
        print(f'nothing to do: all {len(runs)} have records in {args.results}')
    numbers = signal.SIGINT, signal.SIGTERM
    handlers = [signal.signal(number, _stop) for number in numbers]
    try:
        return int(not do_all(todo, argv, args.jobs))
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def _stop(*_):
    sys.exit('stopped; the same command goes on')


if __name__ == '__main__':
    sys.exit(main())
