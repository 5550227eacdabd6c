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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from study import ROOT, Study, Variant, load_study, record_path

#: what a run ends with where another process is at it
ELSEWHERE = 75


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('study', help='study file')
    parser.add_argument('--variant', help='only this one')
    parser.add_argument('--seed', type=int, help='only this one')
    parser.add_argument(
        '--jobs', type=int, default=1, help='runs at a time, 1 by default'
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=1,
        help='of each run, 1 by default; others change the last digits',
    )
    parser.add_argument(
        '--results',
        default=ROOT / 'docs/studies',
        help='folder of the records, docs/studies by default',
    )
    parser.add_argument(
        '--work-dir',
        default=ROOT / 'work_dirs/studies',
        help='folder for logs and checkpoints, work_dirs/studies by default',
    )
    parser.add_argument(
        '--list',
        action='store_true',
        help='say what is finished and what is running, and run nothing',
    )
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


def do_run(run: Run, threads: int) -> int:
    """Does a run in this process, unless it is done already."""
    # the hosts take seconds, which whoever starts runs need not wait
    import torch
    from one_run import execute

    torch.set_num_threads(threads)
    try:
        with run.lock():
            if not run.record.is_file():
                execute(run)
    except Timeout:
        print(f'{run}: another process runs it')
        return ELSEWHERE
    print(f'{run}: {run.find_state()}')
    return 0


class Pool:
    """Does runs in processes of their own, several at a time."""

    def __init__(self, argv: list[str], args: argparse.Namespace):
        self.command = [sys.executable, __file__, *argv]
        self.jobs = args.jobs
        threads = str(args.threads)
        self.env = dict(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        self.processes = []
        self.stopping = False

    def work(self, runs: list[Run]) -> bool:
        """Does all runs, and says whether all are done."""
        with ThreadPoolExecutor(self.jobs) as threads:
            try:
                return all([*threads.map(self._do, runs)])
            finally:  # a signal
                self.stopping = True
                for process in self.processes:
                    process.terminate()

    def _do(self, run):
        path = run.work_dir / 'run.log'
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f'{run}: start', flush=True)
        with path.open('a') as log:
            process = subprocess.Popen(
                [
                    *(*self.command, '--variant', run.variant.name),
                    *('--seed', str(run.seed)),
                ],
                env={**os.environ, **self.env},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        if self.stopping:  # while it was started
            process.terminate()
        code = process.wait()
        if not self.stopping:
            last = path.read_text(errors='replace').strip().splitlines()[-1:]
            failed = f'FAILED, see {path}: ' * (code not in (0, ELSEWHERE))
            print(f'{failed}{"".join(last) or run}', flush=True)
        return code == 0


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    study = load_study(args.study)
    work_dir = Path(args.work_dir, study.name).resolve()
    runs = [
        Run(
            *(study, variant, seed),
            record_path(args.results, study, variant, seed).resolve(),
            work_dir / variant.name / f'seed{seed}',
        )
        for variant, seed in study.list_runs()
        if args.variant in (None, variant.name) and args.seed in (None, seed)
    ]
    if not runs:
        raise ValueError(f'{args.study} has no such run')
    if args.list:
        for run in runs:
            print(f'{run}: {run.find_state()}')
        return 0
    if args.variant is not None and args.seed is not None:
        return do_run(runs[0], args.threads)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    todo = [run for run in runs if not run.record.is_file()]
    return int(not Pool(argv, args).work(todo))


def _stop(*_):
    sys.exit('stopped; the same command goes on')


if __name__ == '__main__':
    sys.exit(main())
