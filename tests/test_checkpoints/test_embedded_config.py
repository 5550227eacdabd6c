import pytest
from mmengine.config import Config

from mmba2m.checkpoints.embedded_config import read_embedded_config


def embed(text):
    return dict(meta=dict(cfg=text))


def test_embedded_config_is_read_as_it_was():
    keys = {'backbone.layer1': dict(lr_mult=0.1)}
    nested = [dict(b=(1, -2.5), c=None)]
    cfg = Config(dict(model=nested, keys=keys, name="it's", flag=True))
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


def test_half_a_config_and_none_are_named():
    with pytest.raises(ValueError, match=r'damaged: .*line 2'):
        read_embedded_config(embed('a = 1\nmodel = dict(b=2'))
    for checkpoint in ({}, dict(meta=None), dict(meta={})):
        with pytest.raises(ValueError, match='no config'):
            read_embedded_config(checkpoint)
