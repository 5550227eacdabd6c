"""What the launch scripts call, by stubs of Python and Slurm."""

import os
import re
import shutil
import sys

import pytest
from launchers import DETECTOR, ROOT, run


@pytest.fixture
def stubs(tmp_path):
    """A Python that prints how it is called, and two machines of a Slurm."""
    log = tmp_path / 'calls'
    for name, text in dict(
        python=f'if [ "$1" != -c ]; then printf "%s\\n" "$*" >>{log}; fi',
        srun="""echo "srun $*"
while [ "$1" != bash ]; do shift; done
export SLURM_JOB_ID=123456 SLURM_JOB_NODELIST="n[3-4]"
for ((i = 0; i < NNODES; i++)); do SLURM_NODEID=$i "$@"; done""",
        scontrol='[ "$*" = "show hostnames n[3-4]" ] && printf "n3\\nn4\\n"',
    ).items():
        (tmp_path / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
        (tmp_path / name).chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    return dict(PYTHON=str(tmp_path / 'python'), PATH=path), log


TORCHRUN = '-m torch.distributed.run '
TOOL = f'{ROOT}/tools'


def test_torchrun_of_one_machine_and_of_several(stubs):
    env, log = stubs
    run(env, 'dist_train.sh', DETECTOR, 4, '--cfg-options', 'a="[1, 2]"')
    run(dict(env, PORT='29511'), 'dist_test.sh', DETECTOR, 'c.pth', 3)
    env = dict(env, NNODES='2', NODE_RANK='1', MASTER_ADDR='n1')
    run(env, 'dist_train.sh', DETECTOR, 8)
    one = (
        '--rdzv_backend=c10d --local_addr=127.0.0.1 --rdzv_endpoint=127.0.0.1'
    )
    assert log.read_text().splitlines() == [
        f'{TORCHRUN}{one}:0 --nnodes=1 --nproc_per_node=4 {TOOL}/train.py '
        f'{DETECTOR} --cfg-options a="[1, 2]" --launcher pytorch',
        f'{TORCHRUN}{one}:29511 --nnodes=1 --nproc_per_node=3 {TOOL}/test.py '
        f'{DETECTOR} c.pth --launcher pytorch',
        f'{TORCHRUN}--node_rank=1 --master_addr=n1 --master_port=29500 '
        f'--nnodes=2 --nproc_per_node=8 {TOOL}/train.py {DETECTOR} '
        '--launcher pytorch',
    ]


def test_processes_share_the_cores_of_a_machine_without_gpu(stubs, tmp_path):
    (tmp_path / 'getconf').write_text('#!/bin/sh\necho 32\n')
    (tmp_path / 'getconf').chmod(0o755)
    env, log = stubs
    text = '#!/bin/sh\n[ "$1" = -c ] || echo $OMP_NUM_THREADS >>"$LOG"\n'
    (tmp_path / 'python').write_text(text)
    if shutil.which('nvidia-smi'):
        pytest.skip('with a GPU, torchrun decides')
    env = dict(env, LOG=str(log))
    for processes in (1, 6, 64):
        run(env, 'dist_train.sh', DETECTOR, processes)
    run(dict(env, OMP_NUM_THREADS='3'), 'dist_train.sh', DETECTOR, 6)
    assert log.read_text().split() == ['32', '5', '1', '3']


def test_tools_let_idle_threads_spin_briefly_before_torch_loads():
    """Threads that wait by spinning make a busy machine crawl."""
    pattern = re.compile(r'^(?:import|from) (\w+)', re.M)
    found = [
        path
        for path in (ROOT / 'tools').rglob('*.py')
        if 'GOMP_SPINCOUNT' in path.read_text('utf-8')
    ]
    assert len(found) == 8
    for path in found:
        before = path.read_text('utf-8').partition('GOMP_SPINCOUNT')[0]
        assert {*pattern.findall(before)} <= sys.stdlib_module_names, path


def test_slurm_starts_torchrun_on_each_machine(stubs):
    env, log = stubs
    output = run(
        dict(env, GPUS='16', SRUN_ARGS='--time=1:00 --exclusive'),
        *('slurm_train.sh', 'gpus', 'my job', DETECTOR, 'work', '--amp'),
    )
    assert output.startswith(
        'srun --partition=gpus --job-name=my job --nodes=2 --ntasks=2 '
        '--ntasks-per-node=1 --gres=gpu:8 --cpus-per-task=40 '
        '--kill-on-bad-exit=1 --time=1:00 --exclusive bash '
    )
    assert log.read_text().splitlines() == [
        f'{TORCHRUN}--node_rank={rank} --master_addr=n3 --master_port=23456 '
        f'--nnodes=2 --nproc_per_node=8 {TOOL}/train.py {DETECTOR} '
        '--work-dir work --amp --launcher pytorch'
        for rank in (0, 1)
    ]
    env = dict(env, GPUS='4', CPUS_PER_TASK='2')
    args = ('gpus', 'j', DETECTOR, 'c.pth', '--tta')
    output = run(env, 'slurm_test.sh', *args)
    assert '--nodes=1 ' in output
    assert '--gres=gpu:4 --cpus-per-task=8 ' in output
    assert log.read_text().endswith(
        f'--nnodes=1 --nproc_per_node=4 {TOOL}/test.py {DETECTOR} c.pth '
        '--tta --launcher pytorch\n'
    )


TRAIN = ('dist_train.sh', DETECTOR)
SLURM = ('slurm_train.sh', 'p', 'j', DETECTOR)


@pytest.mark.parametrize(
    'args, env, message',
    [
        (TRAIN, '', 'needs 2 arguments, got 1'),
        (('dist_test.sh', DETECTOR, 'c.pth'), '', 'needs 3 arguments, got 2'),
        (('slurm_test.sh', 'p', 'j', 'c'), '', 'needs 4 arguments, got 3'),
        ((*TRAIN, '0'), '', "GPUS must be a whole number from 1 on, got '0'"),
        ((*TRAIN, '--amp'), '', "got '--amp'"),
        (('dist_train.sh', 'no.py', 2), '', "there is no file 'no.py' in "),
        ((*TRAIN, 2), 'NNODES=x', 'NNODES must be a whole number'),
        ((*TRAIN, 2), 'PORT=x', 'PORT must be a whole number'),
        ((*TRAIN, 2), 'NNODES=2', 'NODE_RANK must be a whole number'),
        (
            (*TRAIN, 2),
            'NNODES=2 NODE_RANK=2',
            'from 0 to 1 for NNODES=2, got 2',
        ),
        ((*TRAIN, 2), 'NNODES=2 NODE_RANK=0', 'NNODES=2 needs MASTER_ADDR'),
        ((*TRAIN, 2), 'PYTHON=nopython', "there is no 'nopython'"),
        ((*TRAIN, 2), 'PYTHON=false', 'lacks torch or mmba2m'),
        (SLURM, 'GPUS=8.5', 'GPUS must be a whole number from 1 on'),
        (SLURM, 'GPUS=12 GPUS_PER_NODE=8', 'no multiple of GPUS_PER_NODE=8'),
        (SLURM, 'CPUS_PER_TASK=many', 'CPUS_PER_TASK must be a whole'),
    ],
)
def test_wrong_use_is_named_after_the_usage(stubs, args, env, message):
    base, log = stubs
    env = dict(pair.split('=') for pair in env.split())
    output = run(base | env, *args, code=2)
    *_, last = output.splitlines()
    assert last.startswith(f'{args[0]}: error: ')
    assert message in last
    assert output.startswith(f'usage: {args[0]} ')
    assert not log.exists()


@pytest.mark.parametrize(
    'script', sorted(path.name for path in ROOT.glob('tools/*.sh'))
)
def test_help(script):
    assert os.access(ROOT / 'tools' / script, os.X_OK)
    output = run(None, script, '--help')
    assert output.startswith(f'usage: {script} ')
