import os
import sys

import pytest

from mmba2m.engine.cli import create_parser, load_config, run_main


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '')  # so that it is put back
    monkeypatch.delenv('LOCAL_RANK')

    def load(*args, text=''):
        path = tmp_path / 'net_1x.py'
        path.write_text(f'lr = 0.1\nmodel = dict(depth=18)\n{text}')
        return load_config(create_parser('').parse_args([str(path), *args]))

    return load


def test_options_override_the_config(load):
    assert load().work_dir == 'work_dirs/net_1x'
    text = "work_dir = 'of/the/config'\n"
    assert load(text=text).work_dir == 'of/the/config'
    assert load('--work-dir', 'mine', text=text).work_dir == 'mine'
    cfg = load('--cfg-options', 'model.depth=50', 'tags=[a,b]')
    assert (cfg.model.depth, cfg.lr, cfg.tags) == (50, 0.1, ['a', 'b'])


@pytest.mark.parametrize(
    ('option', 'told'),
    [
        ('lr.value=1', "lr={'value': 1} in child config cannot inherit"),
        ('tags.2.a=1', 'Index 2 exceeds the length of list'),
    ],
)
def test_an_option_without_a_place_is_refused(load, option, told):
    with pytest.raises(ValueError, match=f'^--cfg-options: {told}'):
        load('--cfg-options', option, text='tags = []\n')


@pytest.mark.parametrize('option', ['--local_rank', '--local-rank'])
def test_local_rank_is_for_who_sets_no_variable(load, option):
    load(option, '3', '--launcher', 'pytorch')
    assert os.environ['LOCAL_RANK'] == '3'
    load(option, '5')
    assert os.environ['LOCAL_RANK'] == '3'


def test_what_a_user_can_mend_ends_in_one_line(monkeypatch):
    def main():
        raise error

    monkeypatch.setattr(sys, 'argv', ['tools/some/tool.py', '--option'])
    error = FileNotFoundError('no such file')
    with pytest.raises(SystemExit, match=r'^tool: no such file$'):
        run_main(main)
    error = TypeError('ours')
    with pytest.raises(TypeError):
        run_main(main)
