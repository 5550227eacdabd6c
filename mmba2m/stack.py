"""Checks the installed OpenMMLab stack before anything is imported from it.

Both stacks use the same import names under different distribution names, so
the versions come from the distributions' metadata. See ``requirements/``.
"""

import warnings
from importlib import metadata
from importlib.machinery import PathFinder
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


def list_distributions(name: str) -> list[tuple[str, str]]:
    """Lists the installed distributions that provide an import name.

    Args:
        name: A key of :data:`SUPPORTED`.

    Returns:
        Distributions and versions. Where there are two, they overwrite each
        other.
    """
    found = []
    for distribution in SUPPORTED[name][0]:
        try:
            found.append((distribution, metadata.version(distribution)))
        except metadata.PackageNotFoundError:
            continue
    return found


def find_version(name: str) -> tuple[str, str] | None:
    """Finds which distribution provides an import name.

    Args:
        name: A key of :data:`SUPPORTED`.

    Returns:
        Distribution and version, or ``None`` where it is not installed.
    """
    return next(iter(list_distributions(name)), None)


def find_problem(name: str) -> str | None:
    """Says what is wrong with an installed package, the ops of mmcv included.

    Args:
        name: A key of :data:`SUPPORTED`.

    Returns:
        What is found and wanted, or ``None`` if it is fine.
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
    if name == 'mmdet' and not has_ops():
        distribution, version = list_distributions('mmcv')[0]
        full = distribution.removesuffix('-lite')
        return (
            f'mmdet needs the compiled ops of mmcv, and {distribution} '
            f'{version} was installed without them, which this does: '
            'MMCV_WITH_OPS=1 pip install --no-deps --no-build-isolation '
            f'--force-reinstall --no-binary {full} {full}=={version}'
        )
    return None


def has_ops() -> bool:
    """Looks for the compiled ops of MMCV, without importing it."""
    folders = getattr(find_spec('mmcv'), 'submodule_search_locations', None)
    return PathFinder.find_spec('_ext', folders or []) is not None


def check_stack() -> tuple[str, ...]:
    """Checks versions and completeness of what is installed.

    Returns:
        The usable hosts, a subset of :data:`HOSTS`. It is empty where no host
        is installed: the layers work on their own.

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
