"""The command ``mmba2m``, which is ``python -m mmba2m``.

Its report on the environment is for pasting into an issue: what may be broken
is imported in other processes only.
"""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from .stack import HOSTS, SUPPORTED, find_problem, list_distributions
from .version import __version__

TASKS = dict(mmdet='detection', mmpretrain='classification')
#: what extras of this package are for, and what is in them
EXTRAS = dict(
    analysis=('t-SNE', ['sklearn']),
    export=('export to ONNX', ['onnx', 'onnxruntime']),
)
#: what the command calls the tools, by their files below ``tools/``
TOOLS = dict(
    train='train.py',
    test='test.py',
    image_demo='image_demo.py',
    demo='demo.py',
    dist_train='dist_train.sh',
    dist_test='dist_test.sh',
    slurm_train='slurm_train.sh',
    slurm_test='slurm_test.sh',
    curves='analysis_tools/curves.py',
    tsne='analysis_tools/tsne.py',
    visualize_weights='analysis_tools/visualize_weights.py',
    benchmark='benchmark/benchmark_backbone.py',
    long_tail='dataset_converters/long_tail.py',
    make_shapes='dataset_converters/make_shapes.py',
    pascal_voc_instances='dataset_converters/pascal_voc_instances.py',
    export='deployment/export.py',
    publish='model_converters/publish_model.py',
    resnet_to_ba2m='model_converters/resnet_to_ba2m.py',
    strip='model_converters/strip_ba2m.py',
    try_attention='studies/try_attention.py',
)
USAGE = f"""usage: mmba2m [COMMAND …], which is python -m mmba2m

  env             report on the environment, also without a command
  check CONFIG    what is in the data of a config, and what is wrong
  config [NAME]   where a config of ours is installed; the names of all
  TOOL …          run a tool; with --help it shows its options

tools: {', '.join(TOOLS)}
"""
TIMEOUT = 300
#: what is run in a process of its own; the last line is what it finds
CHECKS = {
    'environment': """
from mmengine.utils.dl_utils import collect_env
found = collect_env().items()
print(*(f'{k}: {v}' for k, v in found if '\\n' not in str(v)), sep=', ')
""",
    "mmcv's ops": """
import torch
from mmcv.ops import get_compiling_cuda_version, nms
boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [5, 5, 9, 9]])
scores = torch.tensor([0.9, 0.8, 0.7])
devices = ['cpu', 'cuda'][: 1 + torch.cuda.is_available()]
for device in devices:
    kept = nms(boxes.to(device), scores.to(device), 0.5)[1].tolist()
    assert kept == [0, 2], f'wrong result on {device}: {kept}'
print('work on', *devices, '- CUDA', get_compiling_cuda_version())
""",
    'hosts of mmba2m': """
import mmba2m
print(*mmba2m.HOSTS or ["none"])
""",
}


def run_checks() -> dict[str, tuple[bool, str]]:
    """Runs :data:`CHECKS`, at the same time.

    Returns:
        Whether each works, and what it wrote, or why it does not.
    """
    command = [sys.executable, '-W', 'ignore', '-c']
    processes = {
        name: subprocess.Popen(
            [*command, code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, code in CHECKS.items()
    }
    return {name: finish(process) for name, process in processes.items()}


def finish(process: subprocess.Popen[str]) -> tuple[bool, str]:
    """Says whether a check works, and what it wrote, or why it does not."""
    try:
        out, error = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        return False, f'takes more than {TIMEOUT} s'
    code = process.returncode
    if code < 0:
        return False, f'ends Python by {signal.Signals(-code).name}'
    lines = (error if code else out).strip().splitlines()
    return not code, lines[-1] if lines else f'ends Python with {code}'


def find_host_problem(
    host: str, checks: dict[str, tuple[bool, str]]
) -> str | None:
    """Says why a host cannot be used, or ``None`` if it can."""
    for name in ('torch', 'mmengine', 'mmcv', host):
        problem = find_problem(name)
        if problem:
            return problem
    works, text = checks['hosts of mmba2m']
    if not works or host not in text.split():
        return text
    works, text = checks["mmcv's ops"]
    return text if host == 'mmdet' and not works else None


def report(checks: dict[str, tuple[bool, str]]) -> Iterator[str]:
    """Yields the lines of the report.

    Args:
        checks: From :func:`run_checks`.
    """
    yield f'### Environment of mmba2m {__version__}\n'
    yield f'- platform: {platform.platform()}, {sys.executable}'
    for name, (works, text) in checks.items():
        yield f'- {name}: {text if works else f"broken, {text}"}'
    for name in SUPPORTED:
        found = [' '.join(one) for one in list_distributions(name)]
        text = ' and '.join(found) or 'not installed'
        if len(found) > 1:
            text += ', which overwrite each other'
        spec = find_spec(name)
        where = f'from {spec.origin}' if spec else 'not found'
        yield f'- {name}: {text}; {where}'
    yield '\n| feature | works | what is missing |\n| --- | --- | --- |'
    problems = {
        task: find_host_problem(host, checks) for host, task in TASKS.items()
    }
    for extra, (feature, names) in EXTRAS.items():
        missing = ', '.join(name for name in names if not find_spec(name))
        command = f'{missing}: pip install "mmba2m[{extra}]"'
        problems[feature] = command if missing else None
    for feature, problem in problems.items():
        yield f'| {feature} | {"no" if problem else "yes"} | {problem or ""} |'


def report_environment() -> int:
    """Prints the report.

    Returns:
        0 if a host is installed, and each that is can be used; else 1.
    """
    checks = run_checks()
    home = f'{Path.home()}/'
    print('\n'.join(report(checks)).replace(home, '~/'))
    installed = [host for host in HOSTS if list_distributions(host)]
    broken = [host for host in installed if find_host_problem(host, checks)]
    return 0 if installed and not broken else 1


def run_tool(name: str, args: Sequence[str]) -> None:
    """Lets a tool take the place of this process, so that signals reach it.

    Args:
        name: One of :data:`TOOLS`.
        args: Its arguments.

    Raises:
        FileNotFoundError: If this package was installed without tools.
    """
    from .config_files import config_root

    path = str(config_root() / 'tools' / TOOLS[name])
    program = 'bash' if path.endswith('.sh') else sys.executable
    os.environ.setdefault('PYTHON', sys.executable)  # for the scripts
    os.execvp(program, [program, path, *args])


def main(argv: Sequence[str] | None = None) -> int | str:
    """Runs the command.

    Args:
        argv: What follows its name; by default that of ``sys.argv``.

    Returns:
        The exit status, or what is wrong.
    """
    name, *args = (sys.argv[1:] if argv is None else argv) or ['env']
    try:
        if name == 'env' and not args:
            return report_environment()
        if name == 'config' and len(args) < 2:
            from .config_files import find_config, list_configs

            print(*[*map(find_config, args)] or list_configs(), sep='\n')
            return 0
        if name == 'check':  # where what configs name is registered
            command = [sys.executable, '-m', 'mmba2m.data_checks.command']
            os.execvp(sys.executable, [*command, *args])
        if name in TOOLS:
            run_tool(name, args)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    wants_help = name in ('-h', '--help')
    print(USAGE, end='', file=sys.stdout if wants_help else sys.stderr)
    return 0 if wants_help else 2


if __name__ == '__main__':
    sys.exit(main())
