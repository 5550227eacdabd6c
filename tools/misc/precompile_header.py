"""Precompiles the header of torch that every file of mmcv's ops includes.

    CFLAGS='-O2' python tools/misc/precompile_header.py FOLDER

leaves FOLDER/torch_types.h, and beside it what GCC reads in its place if the
flags are the same: a file of mmcv then takes a fourth of the time. Fails with
another compiler: Clang refuses a header whose flags differ, where GCC reads
the header itself.
"""

import os
import subprocess
import sys
from distutils.ccompiler import new_compiler
from distutils.sysconfig import customize_compiler
from pathlib import Path
from sysconfig import get_path

import torch
from torch.utils.cpp_extension import include_paths


def main(folder, header='torch/types.h'):
    compiler = os.environ.get('CXX', 'c++')
    version = subprocess.check_output([compiler, '--version'], text=True)
    if 'Free Software Foundation' not in version:
        sys.exit(f'{compiler} is not GCC')

    # as the build's, as far as the header depends on them
    build = new_compiler()
    customize_compiler(build)  # reads CFLAGS
    flags = [*build.compiler_so[1:], '-std=c++17']
    if not torch.compiled_with_cxx11_abi():
        flags.append('-D_GLIBCXX_USE_CXX11_ABI=0')
    flags += [f'-I{path}' for path in (*include_paths(), get_path('include'))]

    path = Path(folder, 'torch_types.h')
    path.write_text(f'#include <{header}>\n')
    command = [compiler, *flags, '-x', 'c++-header', path]
    subprocess.run([*command, '-o', f'{path}.gch'], check=True)


if __name__ == '__main__':
    main(sys.argv[1])
