import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUP = """
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

flags = dict(cxx=['-std=c++17'])  # as mmcv has it
ops = CppExtension('some_ops', ['ops.cpp'], extra_compile_args=flags)
setup(name='ops', ext_modules=[ops], cmdclass=dict(build_ext=BuildExtension))
"""


def is_gcc():
    command = [os.environ.get('CXX', 'c++'), '--version']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return 'Free Software Foundation' in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not is_gcc(), reason='is of GCC')
def test_a_build_of_torch_reads_it(tmp_path, monkeypatch):
    tool = runpy.run_path(str(ROOT / 'tools/misc/precompile_header.py'))
    monkeypatch.setenv('CFLAGS', '-g0 -O2')
    tool['main'](tmp_path, 'c10/util/Exception.h')  # smaller than types.h
    (tmp_path / 'ops.cpp').write_text('std::string name = "a";\n')
    (tmp_path / 'setup.py').write_text(SETUP)
    flags = '-include torch_types.h -Winvalid-pch -Werror'
    monkeypatch.setenv('CFLAGS', f'-g0 -O2 {flags}')
    monkeypatch.setenv('CPATH', str(tmp_path))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    folder = str(Path(sys.executable).parent)
    monkeypatch.setenv('PATH', folder, prepend=os.pathsep)
    command = [sys.executable, 'setup.py', 'build_ext', '--inplace']
    subprocess.run(command, cwd=tmp_path, check=True)  # pytest shows it
    assert list(tmp_path.glob('some_ops*.so'))
