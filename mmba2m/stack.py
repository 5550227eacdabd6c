"""Checks the installed OpenMMLab stack before anything is imported from it.

Both stacks use the same import names under different distribution names, so
the versions come from the distributions' metadata. See ``requirements/``.
"""

import warnings
from importlib import metadata
from importlib.util import find_spec

from packaging.specifiers import SpecifierSet
from packaging.version import Version

#: import name -> (distributions that provide it, supported versions)
SUPPORTED = {
    'torch': (('torch',), '>=2.1'),
    'mmengine': (('onedl-mmengine', 'mmengine'), '>=0.10.4,<1.0'),
    'mmcv': (
        ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
        '>=2.1.0,<2.4',
    ),
    'mmdet': (('onedl-mmdetection', 'mmdet'), '>=3.3.0,<3.6'),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), '>=1.2.0,<1.4'),
}
HOSTS = ('mmdet', 'mmpretrain')


def find_version(name):
    """Finds which distribution provides an import name.

    Args:
        name (str): A key of :data:`SUPPORTED`.

    Returns:
        tuple[str, str] | None: Distribution and version, or ``None`` where
        it is not installed.
    """
    for distribution in SUPPORTED[name][0]:
        try:
            return distribution, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def find_version_problem(name):
    """Says whether a package is missing, or of another version than needed.

    Args:
        name (str): A key of :data:`SUPPORTED`.

    Returns:
        str | None: The versions found and wanted, or ``None`` if it is fine.
    """
    wanted = SUPPORTED[name][1]
    found = find_version(name)
    if found is None:
        return f'{name} is not installed, {name}{wanted} is needed'
    distribution, version = found
    # local and pre-release parts ('2.1.0+cu121') do not matter here
    if not SpecifierSet(wanted).contains(
        Version(version).base_version, prereleases=True
    ):
        return (
            f'{distribution} {version} is installed, {name}{wanted} is needed'
        )
    return None


def find_problem(name):
    """Says what is wrong with an installed package, the ops of mmcv included.

    Args:
        name (str): A key of :data:`SUPPORTED`.

    Returns:
        str | None: What is found and wanted, or ``None`` if it is fine.
    """
    problem = find_version_problem(name)
    if problem:
        return problem
    if name == 'mmdet' and find_spec('mmcv._ext') is None:
        distribution, version = find_version('mmcv')
        return (
            f'mmdet needs the compiled ops of mmcv, and {distribution} '
            f'{version} was installed without them: install mmcv'
            f'{SUPPORTED["mmcv"][1]} (not mmcv-lite) with its ops'
        )
    return None


def check_stack():
    """Checks versions and completeness of what is installed.

    Returns:
        tuple[str]: The usable hosts, a subset of :data:`HOSTS`. It is empty
        where no host is installed: the layers work on their own.

    Raises:
        ImportError: If torch, MMEngine or MMCV is missing or unsupported, or
            if no installed host is usable. If one host is usable and the
            other is not, it is a warning.
    """
    for name in ('torch', 'mmengine', 'mmcv'):
        problem = find_problem(name)
        if problem:
            raise ImportError(f'mmba2m: {problem}.')
    installed = [host for host in HOSTS if find_version(host)]
    problems = {host: find_problem(host) for host in installed}
    usable = tuple(host for host in installed if not problems[host])
    message = '; '.join(filter(None, problems.values()))
    if message and not usable:
        raise ImportError(f'mmba2m: {message}.')
    if message:
        warnings.warn(
            f'mmba2m registers nothing in the host it cannot use: {message}.',
            stacklevel=3,
        )
    return usable
