import os

import pytest

from mmba2m.engine.cli import create_parser, load_config


@pytest.fixture(autouse=True)
def _no_local_rank(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '')  # so that it is put back
    monkeypatch.delenv('LOCAL_RANK')


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'net_1x.py'
    path.write_text('lr = 0.1\nmodel = dict(depth=18)\n')
    return path


def load(*args):
    return load_config(create_parser('').parse_args(list(map(str, args))))


def test_work_dir_is_named_by_the_command_line_or_the_config(config):
    assert load(config).work_dir == 'work_dirs/net_1x'
    config.write_text(config.read_text() + "work_dir = 'of/the/config'\n")
    assert load(config).work_dir == 'of/the/config'
    assert load(config, '--work-dir', 'mine').work_dir == 'mine'


def test_options_override_the_config(config):
    cfg = load(config, '--cfg-options', 'model.depth=50', 'tags=[a,b]')
    assert (cfg.model.depth, cfg.lr, cfg.tags) == (50, 0.1, ['a', 'b'])


@pytest.mark.parametrize('option', ['--local_rank', '--local-rank'])
def test_local_rank_is_for_who_sets_no_variable(config, option):
    load(config, option, '3', '--launcher', 'pytorch')
    assert os.environ['LOCAL_RANK'] == '3'
    load(config, option, '5')
    assert os.environ['LOCAL_RANK'] == '3'
