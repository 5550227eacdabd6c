"""Metadata of mmba2m; what it depends on is listed in requirements/."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version():
    """Reads the version without importing the package (and torch)."""
    text = (ROOT / 'mmba2m/version.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '(.+)'", text).group(1)


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


readme = ROOT / 'README.md'
extras = {
    name: read_requirements(f'{name}.txt')
    for name in ('analysis', 'docs', 'export', 'lint', 'notebook', 'tests')
}

setup(
    name='mmba2m',
    version=read_version(),
    description='BA2M, the batch-aware attention module, for MMDetection '
    'and MMPretrain',
    long_description=readme.read_text('utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    author='The mmba2m contributors',
    license='Apache-2.0',
    keywords='computer vision, attention, object detection',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mmba2m', 'mmba2m.*']),
    cmdclass={'build_py': BuildWithMim},
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
