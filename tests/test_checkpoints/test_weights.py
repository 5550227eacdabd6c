import pytest
import torch
from mmengine.config import Config

from mmba2m.checkpoints.embedded_config import read_embedded_config
from mmba2m.checkpoints.weights import (
    check_new_file,
    get_weights,
    to_bytes,
    write_new_file,
)


def embed(text):
    return dict(meta=dict(cfg=text))


def test_embedded_config_is_read_as_it_was():
    cfg = Config(
        {
            'model': dict(type='A', nested=[dict(b=(1, -2.5), c=None)]),
            'optim_wrapper': dict(
                custom_keys={'backbone.layer1': dict(lr_mult=0.1)}
            ),
            'name': "it's",
            'flag': True,
        }
    )
    read = read_embedded_config(embed(cfg.pretty_text))
    assert read.to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('import os', 'import os'),
        ("a = open('/etc/hostname').read()", 'open'),
        ('a = ().__class__', '__class__'),
        ("model = dict(a=eval('1'))", 'eval'),
        ('a = [x for x in (1,)]', 'for x in'),
        ("a = f'{1}'", "f'"),
        ('dict = print', 'print'),
    ],
)
def test_embedded_config_never_runs(text, named):
    with pytest.raises(ValueError, match='more than values, line 1') as error:
        read_embedded_config(embed(text))
    assert named in str(error.value)


def test_half_an_embedded_config_is_named():
    with pytest.raises(ValueError, match=r'damaged: .*line 2'):
        read_embedded_config(embed('a = 1\nmodel = dict(b=2'))


def test_a_checkpoint_without_config_is_named():
    for checkpoint in ({}, dict(meta=None), dict(meta={})):
        with pytest.raises(ValueError, match='no config'):
            read_embedded_config(checkpoint)


def test_weights_are_found_in_each_container():
    weights = {'a.b': torch.ones(2), 'c': torch.zeros(1)}
    wrapped = {f'module.{key}': value for key, value in weights.items()}
    for checkpoint in (
        weights,
        wrapped,
        dict(state_dict=weights, meta={}),
        dict(model=wrapped, epoch=3),
    ):
        assert get_weights(checkpoint) == weights


@pytest.mark.parametrize(
    ('checkpoint', 'named'),
    [
        ({}, 'nothing'),
        (dict(epoch=3, arch='resnet'), 'epoch, arch'),
        (dict(state_dict=dict(a=torch.ones(1), b=2)), 'but b'),
        (dict(state_dict={}), 'nothing'),
    ],
)
def test_what_are_no_weights_is_named(checkpoint, named):
    with pytest.raises(ValueError, match=f'no weights.* {named}$'):
        get_weights(checkpoint)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    content = dict(state_dict=dict(a=torch.arange(3.0)), meta=dict(b=1))
    assert to_bytes(content) == to_bytes(content)
    write_new_file(to_bytes(content), tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded['state_dict']['a'].tolist() == [0, 1, 2]


def test_no_file_is_overwritten(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(b'old')
    with pytest.raises(FileExistsError, match=r'a\.pth exists'):
        write_new_file(b'new', path)
    assert path.read_bytes() == b'old'
    link = tmp_path / 'dangling.pth'
    link.symlink_to(tmp_path / 'gone.pth')
    with pytest.raises(FileExistsError, match=r'dangling\.pth'):
        check_new_file(link)
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        check_new_file(tmp_path / 'nowhere' / 'a.pth')
