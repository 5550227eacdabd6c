"""Every command and code block of README and docs works, or says why not.

Commands are read by bash and taken apart by the tools' own parsers, configs
are loaded and built. See :mod:`code_blocks` for the marks of a page.
"""

import ast
import re
import runpy
import sys
from copy import deepcopy
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import chain

import pytest
from code_blocks import (
    ROOT,
    SHELL,
    find_blocks,
    find_pages,
    link_root,
    read_blocks,
    run_shell,
)
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, init_default_scope
from tool_runs import isolate_mmengine
from torch import nn

from mmba2m import HOSTS
from mmba2m.__main__ import TOOLS
from mmba2m.engine.cli import load_config

HOW = (
    'Is it output? Then make it a ```text block. Can it not be checked? Then '
    'say why, or which test runs it, in the line before it: '
    '<!-- not run: REASON --> or <!-- run by: tests/FILE.py::TEST -->'
)
#: change nothing but the place where the next command is run
PLAIN = ('cd', 'cp', 'docker', 'git', 'ln', 'mkdir', 'pip', 'source', 'tar')
#: which tool a script runs, and which of its words are its own
SCRIPTS = {
    'tools/dist_train.sh': ('tools/train.py', slice(1, 2)),
    'tools/dist_test.sh': ('tools/test.py', slice(2, 3)),
    'tools/slurm_train.sh': ('tools/train.py', slice(0, 2)),
    'tools/slurm_test.sh': ('tools/test.py', slice(0, 2)),
}
load_base = cache(Config.fromfile)


@cache
def load_tool(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend((ROOT / path).parent)  # as for a script
        return runpy.run_path(str(ROOT / path))


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Checks need no weights; configs are loaded once."""
    patch = monkeypatch.setattr
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        patch(layer, 'reset_parameters', lambda self: None)
    patch(Config, 'fromfile', lambda path: deepcopy(load_base(str(path))))
    monkeypatch.chdir(ROOT)
    with isolate_mmengine():  # its loggers keep the stream of a test
        yield


# Commands


@pytest.mark.parametrize('page', find_pages())
def test_commands(page, tmp_path, monkeypatch, capsys):
    link_root(tmp_path)
    blocks = [b for b in read_blocks(page) if b.language in SHELL]
    blocks = [block for block in blocks if not block.mark]
    for block, words in run_shell(blocks, tmp_path) if blocks else ():
        try:
            check_command(words, monkeypatch)
        except SystemExit:
            problem = capsys.readouterr().err.splitlines()[-1]
            pytest.fail(f'{block}: {problem}')
        except Exception as error:
            pytest.fail(f'{block}: {" ".join(words)}: {error!r}. {HOW}')


def check_command(words, monkeypatch):
    command, *args = words
    if command in PLAIN:
        return
    if command == 'make':
        makefile = (ROOT / 'Makefile').read_text()
        targets = re.findall(r'^([a-z]+):', makefile, re.M)
        assert {arg for arg in args if '=' not in arg} <= set(targets)
    elif command == 'mmba2m':
        if args[:1] and args[0] not in ('check', 'config'):
            check_tool(f'tools/{TOOLS[args[0]]}', args[1:], monkeypatch)
    elif command in SCRIPTS:
        tool, own = SCRIPTS[command]
        del args[own]
        check_tool(tool, args, monkeypatch)
    elif command == 'python' and args[0] == '-c':
        exec(args[1], {})
    elif command == 'python' and args[0] == '-m':
        assert find_spec(args[1])
        for path in args[2:]:
            if path.startswith('tests/'):
                assert (ROOT / path).exists(), f'{path} is not there'
    elif command == 'python' and args[0].startswith('tools/'):
        check_tool(args[0], args[1:], monkeypatch)
    else:
        raise ValueError(f'{command} is no command this test knows')


def check_tool(path, args, monkeypatch):
    """Its parser takes the words, and configs load with the options."""
    tool = load_tool(path)
    # a page's own names for options, such as NORM, stand for one of several
    if '--cfg-options' in args:
        start = args.index('--cfg-options') + 1
        args = args[:start] + [
            arg for arg in args[start:] if not re.fullmatch('[A-Z_]+', arg)
        ]
    monkeypatch.setattr(sys, 'argv', [path, *args])
    if 'parse_args' in tool:
        args = tool['parse_args']()
    else:  # a converter without options of its own
        args = tool['create_parser'](tool['__doc__']).parse_args()
    values = [
        value if isinstance(value, (list, tuple)) else [value]
        for value in vars(args).values()
    ]
    for value in chain.from_iterable(values):
        if str(value).startswith(('configs/', 'demo/', 'tools/', 'docs/')):
            assert (ROOT / value).exists(), f'{value} is not there'
    if not str(getattr(args, 'config', '')).startswith('configs/'):
        return
    options = getattr(args, 'cfg_options', None) or {}
    if not hasattr(args, 'launcher'):
        load_base(args.config)
        return
    cfg = load_config(args)
    if path == 'tools/train.py':
        cfg = tool['merge_args'](cfg, args)
    if any(key.startswith('model.') for key in options):
        build_model(cfg)


def build_model(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


# Python


def is_config(code):
    """Whether a block only assigns, and imports no more than a config may."""
    return all(isinstance(node, ast.Assign) for node in ast.parse(code).body)


BLOCKS = find_blocks('python')


@pytest.mark.parametrize(
    'block', [b for b in BLOCKS if is_config(b.text)], ids=str
)
def test_configs(block, tmp_path):
    link_root(tmp_path)
    folder = tmp_path / 'work'
    (folder / 'own').mkdir(parents=True)
    for path in (ROOT / 'configs').iterdir():
        (folder / path.name).symlink_to(path)
    path = folder / 'own/config.py'
    path.write_text(block.text, encoding='utf-8')
    cfg = Config.fromfile(path)
    checked = False
    if 'plugins' in cfg:  # of the host's own network
        cfg.model = dict(backbone=dict(type='mmdet.ResNet', depth=50))
        cfg.model.backbone.plugins = cfg.plugins
    if cfg.get('model', {}).get('type'):
        model = build_model(cfg)
        build_optim_wrapper(model, cfg.optim_wrapper)
        checked = True
    elif 'backbone' in cfg.get('model', {}):
        for host in HOSTS:
            checked |= build_backbone(cfg.model.backbone, host)
    hooks = [*cfg.get('default_hooks', {}).values()]
    for hook in [*hooks, *cfg.get('custom_hooks', [])]:
        if hook['type'].startswith('mmba2m.'):  # others are the host's
            HOOKS.build(hook)
            checked = True
    assert checked, f'{block}: there is nothing that this test builds. {HOW}'


def build_backbone(backbone, host):
    """Builds it, or its options in the network they are meant for."""
    backbone = dict(backbone)
    scope, _, name = backbone.pop('type', 'BA2MResNet').rpartition('.')
    if scope not in ('', host):
        return False
    backbone.setdefault('depth', 50)
    registry = import_module(f'{host}.registry').MODELS
    if name not in registry.module_dict and not registry.get(name):
        return False
    registry.build({**backbone, 'type': name})
    return True


# What is not checked here


def test_marks():
    for block in BLOCKS:  # what is no config needs a test of its own
        assert is_config(block.text), f'{block} is no config. {HOW}'
    known = {*SHELL, 'python', 'text', 'json', 'latex', 'html'}
    for page in find_pages():
        for block in read_blocks(page):
            assert block.language in known, f'{block}: {block.language}? {HOW}'
            if block.mark == 'run by':
                path, _, test = block.reason.partition('::')
                code = (ROOT / path).read_text(encoding='utf-8')
                assert f'def {test}(' in code, f'{block}: no {block.reason}'
