"""The report of ``python -m mmba2m``, to paste into an issue.

Nothing of the stack is imported here: it may be broken.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from mmba2m.version import __version__

from . import environment_probe
from .stack import SUPPORTED, find_version, find_version_problem

PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain')
PROBES = (*PACKAGES, 'mmcv.ops', 'mmba2m')
TASKS = dict(mmdet='detection', mmpretrain='classification')
STACKS = ('onedl', 'openmmlab')
#: what the extras of this package are for
EXTRAS = dict(
    analysis='pictures', export='export to ONNX', docs='building the docs'
)
TIMEOUT = 300


def main(args=None):
    """Prints the report.

    Args:
        args (Sequence[str] | None): The command line. Defaults to
            ``sys.argv[1:]``.

    Returns:
        int: 0 if a network with BA²M can be built in one host at least,
        else 1.
    """
    parser = argparse.ArgumentParser(
        prog='python -m mmba2m',
        description='Prints a report on the environment, to paste into an '
        'issue. The exit status is 0 if MMDetection or MMPretrain can be '
        'used, else 1.',
    )
    parser.parse_args(args)
    probes = probe(PROBES)
    print(shorten_home('\n'.join(report(probes))))
    return 0 if probes['mmba2m'].get('hosts') else 1


def probe(names):
    """Imports packages in another process, see :mod:`.environment_probe`.

    Args:
        names (Sequence[str]): Their names.

    Returns:
        dict[str, dict]: What each is, or its ``error``.
    """
    source = Path(environment_probe.__file__).read_text(encoding='utf-8')
    left = list(names)
    found = {name: {} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        while left:
            file = Path(folder, 'found')
            file.write_text('')
            end = _run([sys.executable, '-c', source, str(file), *left])
            lines = file.read_text(encoding='utf-8').splitlines()
            for name, result in map(json.loads, lines):
                found[name].update(result)
            done = len(lines) // 2
            if done < len(left):  # and go on with the next
                found[left[done]]['error'] = f'it {end}'
            left = left[done + 1 :]
    return found


def _run(command):
    """Runs a process and says how it ended."""
    try:
        code = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return f'takes more than {TIMEOUT} s'
    if code < 0:
        return f'ends Python by {signal.Signals(-code).name}'
    return f'ends Python with status {code}'


def report(probes):
    """Puts it all into words.

    Args:
        probes (dict[str, dict]): From :func:`probe`, of :data:`PROBES`.

    Returns:
        list[str]: Lines of Markdown.
    """
    stack = find_stack()
    torch, ours = probes['torch'], probes['mmba2m']
    lines = [
        f'### Environment of mmba2m {__version__}',
        '',
        f'- platform: {platform.platform()}',
        f'- Python: {platform.python_version()}, {sys.executable}',
        f'- stack: {stack}'
        + ('; they overwrite each other' if stack.startswith('mixed') else ''),
        f'- mmba2m: {_describe_package(ours)}',
        f"- mmcv's ops: {_describe_ops(probes)}",
        f'- CUDA of torch: {torch.get("cuda") or "none"}',
    ]
    gpus = torch.get('gpus') or ['none that torch sees']
    lines += [f'- GPU: {gpu}' for gpu in gpus]
    tools = probes['mmengine'].get('tools', {})
    lines += [f'- {name}: {text}' for name, text in tools.items()]
    lines += [
        '',
        '| package | version | imported from |',
        '| --- | --- | --- |',
    ]
    for name in PACKAGES:
        versions = ', '.join(find_distributions(name)) or 'not installed'
        lines.append(
            f'| {name} | {versions} | {_folder(probes[name]) or "-"} |'
        )
    lines += ['', '| feature | works | why not, and what helps |']
    lines += ['| --- | --- | --- |']
    features = [
        *(
            (task, missing_in_host(h, stack, probes))
            for h, task in TASKS.items()
        ),
        *((name, missing_in_extra(e)) for e, name in find_extras().items()),
    ]
    for feature, why in features:
        works = 'no' if why else 'yes'
        lines.append(f'| {feature} | {works} | {why or ""} |')
    problems = [
        f'- {name}: {text}'
        for name in PACKAGES
        for text in find_problems(name, probes[name])
    ]
    problems += [
        f'- {text}'
        for text in ours.get('warnings', ())
        if text.startswith('mmba2m')  # the hosts warn of their own
    ]
    return lines + (['', 'Problems:', '', *problems] if problems else [])


def find_distributions(name):
    """Lists the distributions that provide an import name, with versions."""
    distributions = SUPPORTED[name][0] if name in SUPPORTED else (name,)
    found = []
    for distribution in distributions:
        try:
            found.append(f'{distribution} {metadata.version(distribution)}')
        except metadata.PackageNotFoundError:
            continue
    return found


def find_stack():
    """Names the stack: 'onedl', 'openmmlab', 'none', or 'mixed: ' and what."""
    found = {
        distribution: STACKS[not distribution.startswith('onedl-')]
        for name in ('mmengine', 'mmcv', *TASKS)
        for distribution in find_distributions(name)
    }
    stacks = sorted(set(found.values()))
    if len(stacks) < 2:
        return stacks[0] if stacks else 'none'
    return f'mixed: {", ".join(found)}'


def find_problems(name, found):
    """Yields what is wrong with a package.

    Args:
        name (str): One of :data:`PACKAGES`.
        found (dict): What :func:`probe` says of it.
    """
    if name in SUPPORTED:
        problem = find_version_problem(name)
        if problem and not (name in TASKS and find_version(name) is None):
            yield problem  # hosts are optional
    installed = find_distributions(name)
    if 'error' in found and (installed or 'file' in found):
        yield f'it does not import: {found["error"]}'
    if 'file' not in found:
        return
    if not installed:
        yield (
            f'it is not installed, but imported from {_folder(found)}: a '
            'folder of this name is on the path'
        )
        return
    wanted = find_installed(installed[0].split()[0], name)
    own = Path(found['file']).resolve()
    if wanted and wanted != own and wanted not in own.parents:
        yield (
            f'{_folder(found)} shadows the installed one, '
            f'{_folder(dict(file=str(wanted)))}: '
            'rename that folder, or call Python from another one'
        )


def find_installed(distribution, name):
    """Finds where a distribution has put a package.

    Args:
        distribution (str): Its name.
        name (str): The package.

    Returns:
        Path | None: Its ``__init__.py``, or the folder of an editable
        install; ``None`` where that is not recorded.
    """
    found = metadata.distribution(distribution)
    for file in found.files or ():
        if file.as_posix() == f'{name}/__init__.py':
            return Path(file.locate()).resolve()
    url = json.loads(found.read_text('direct_url.json') or '{}').get('url', '')
    if url.startswith('file://'):
        return Path(url.removeprefix('file://')).resolve()
    return None


def missing_in_host(host, stack, probes):
    """Says why a host cannot be used, and what to do.

    Args:
        host (str): 'mmdet' or 'mmpretrain'.
        stack (str): From :func:`find_stack`.
        probes (dict[str, dict]): From :func:`probe`.

    Returns:
        str | None: ``None`` if it can be.
    """
    if host in probes['mmba2m'].get('hosts', ()):
        return None
    if stack.startswith('mixed'):
        return f'both stacks; in a new environment: {_pip(STACKS[0])}'
    wrong = [
        problem
        for name in ('torch', 'mmengine', 'mmcv', host)
        if (problem := find_version_problem(name))
    ]
    if wrong:
        extra = STACKS[0] if stack == 'none' else stack
        return f'{"; ".join(wrong)}: {_pip(extra)}'
    if host == 'mmdet' and 'error' in probes['mmcv.ops']:
        distribution, version = find_version('mmcv')
        distribution = re.sub('-(lite|full)$', '', distribution)
        return (
            f'mmcv has no ops: `MMCV_WITH_OPS=1 pip install --no-deps '
            f'--no-build-isolation --force-reinstall --no-binary '
            f'{distribution} {distribution}=={version}`'
        )
    return (
        probes[host].get('error')
        or probes['mmba2m'].get('error')
        or 'see the problems below'
    )


def find_extras():
    """Lists the optional parts of this package, and what they are for."""
    try:
        names = metadata.metadata('mmba2m').get_all('Provides-Extra') or []
    except metadata.PackageNotFoundError:
        names = []
    extras = [name for name in names if name not in (*STACKS, 'all')]
    return {'': 'TensorBoard', **{n: EXTRAS.get(n, n) for n in sorted(extras)}}


def missing_in_extra(extra):
    """Says what is not installed of an extra, and how to install it.

    Args:
        extra (str): Its name; '' for TensorBoard, which is no extra.

    Returns:
        str | None: ``None`` if nothing is missing.
    """
    if extra:
        requirements = map(Requirement, metadata.requires('mmba2m'))
        names = [
            requirement.name
            for requirement in requirements
            if requirement.marker
            and requirement.marker.evaluate(dict(extra=extra))
        ]
    else:
        names = ['tensorboard']
    missing = []
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if not missing:
        return None
    command = _pip(extra) if extra else '`pip install tensorboard`'
    return f'{", ".join(missing)} missing: {command}'


def shorten_home(text):
    """Puts ``~`` in place of the user's home, wherever it is in a text."""
    home = os.path.expanduser('~').rstrip(os.sep)
    if home in ('', '~'):
        return text
    return re.sub(re.escape(home) + r'(?![\w.-])', '~', text)


def _pip(extra):
    try:
        metadata.version('mmba2m')
    except metadata.PackageNotFoundError:  # a checkout that is on the path
        return f'`pip install -e ".[{extra}]"`'
    return f'`pip install "mmba2m[{extra}]"`'


def _folder(found):
    file = found.get('file', '')
    return file.removesuffix(f'{os.sep}__init__.py')


def _describe_package(found):
    if 'error' in found:
        return f'does not import: {found["error"]}'
    if not found['hosts']:
        return 'imports, but finds neither mmdet nor mmpretrain'
    return f'works with {" and ".join(found["hosts"])}'


def _describe_ops(probes):
    found = probes['mmcv.ops']
    if 'error' in found:
        return f'none, {found["error"]}'
    parts = [f'work on the {" and the ".join(found["works"]) or "…"}']
    if not found['works']:
        parts = ['do not work']
    parts += [f'not on the {d}: {why}' for d, why in found['fails'].items()]
    compiled = found['compiled']
    if compiled == 'not available':
        parts.append('compiled for the CPU only')
    else:
        parts.append(f'compiled with CUDA {compiled}')
    return '; '.join(parts)
