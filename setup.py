"""Metadata of mmba2m; what it depends on is listed in requirements/."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def find(pattern, name):
    """Finds in a file what the only group of a pattern matches, or None."""
    found = re.search(pattern, (ROOT / name).read_text('utf-8'), re.M)
    return found and found.group(1)


# without importing the package (and torch)
version = find("^__version__ = '(.+)'", 'mmba2m/version.py')
# what names the repository's address; nothing else does
repository = find('^repository-code: *(.+)', 'CITATION.cff')


def read_description():
    """Reads README.md for a package index, where no file lies beside it.

    Links and pictures become those of the release in the repository. If it
    has no address, links become their text and pictures are left out.
    """

    def complete(match):
        picture, text, path = match.groups()
        if not repository:
            return '' if picture else text
        kind = 'raw' if picture else 'blob'
        return f'{picture}[{text}]({repository}/{kind}/v{version}/{path})'

    links = r'(!?)\[([^]]*)\]\((?!https:|#)(.+?)\)'
    return re.sub(links, complete, (ROOT / 'README.md').read_text('utf-8'))


def read_requirements(name):
    """Lists the requirements that a file of requirements/ names."""
    lines = (ROOT / 'requirements' / name).read_text(encoding='utf-8')
    lines = (line.split('#')[0].strip() for line in lines.splitlines())
    return [line for line in lines if line]


class BuildWithMim(build_py):
    """Puts configs/ and tools/ where MIM looks for them: ``mmba2m/.mim``.

    A wheel gets copies, written straight to the build directory; an editable
    install gets links, so that an edit is seen.
    """

    def run(self):
        """Builds the package, then adds what belongs to MIM."""
        super().run()
        base = ROOT if self.editable_mode else Path(self.build_lib)
        mim = base / 'mmba2m' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            if (ROOT / name).exists():
                self._put(ROOT / name, mim / name)

    def _put(self, source, target):
        if self.editable_mode:
            try:
                target.symlink_to(os.path.relpath(source, target.parent))
                return
            except OSError:  # Windows, without the right to make links
                pass
        if source.is_dir():
            ignore = shutil.ignore_patterns('__pycache__', '.*')
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy(source, target)


urls = {'Paper': 'https://arxiv.org/abs/2103.15099'}
if repository:
    urls |= {
        'Source': repository,
        'Documentation': f'{repository}/blob/v{version}/docs/index.md',
        'Issues': f'{repository}/issues',
        'Changelog': f'{repository}/blob/v{version}/CHANGELOG.md',
    }
extras = {
    name: read_requirements(f'{name}.txt')
    for name in ('analysis', 'docs', 'export', 'lint', 'notebook', 'tests')
}

setup(
    name='mmba2m',
    version=version,
    description='BA2M, the batch-aware attention module, for MMDetection '
    'and MMPretrain',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    project_urls=urls,
    author='The mmba2m contributors',
    license='Apache-2.0',
    keywords='computer vision, attention, batch-aware attention, BA2M, '
    'object detection, image classification, OpenMMLab, MMDetection, '
    'MMPretrain, PyTorch',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mmba2m', 'mmba2m.*']),
    cmdclass={'build_py': BuildWithMim},
    entry_points=dict(console_scripts=['mmba2m = mmba2m.__main__:main']),
    install_requires=read_requirements('runtime.txt'),
    # One stack or the other, never both: they install the same modules.
    extras_require={
        'onedl': read_requirements('onedl.in'),
        'openmmlab': read_requirements('openmmlab.in'),
        **extras,
        'all': [name for names in extras.values() for name in names],
    },
    zip_safe=False,
)
