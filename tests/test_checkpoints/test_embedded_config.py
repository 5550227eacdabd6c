import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmba2m.checkpoints.embedded_config import (
    find_code,
    read_embedded_config,
)

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        (
            "model = dict(type='os.system', command='x')",
            r"el\.type = 'os\.sys",
        ),
        ("a = [(dict(b=dict(type='antigravity.fly')),)]", r'a\.0\.0\.b\.type'),
        ("a = dict(type='antigravity')", r'a\.type'),
        ("a = dict(type='print')", r'a\.type'),
        ("model = dict(type='NoDetector')", r'model\.type'),
        ("a = dict(_scope_='antigravity', type='BN')", r"\._scope_ = 'antig"),
        ("a = dict(type='BN', base='subprocess.Popen')", r'a\.base'),
        ("default_scope = 'antigravity'", 'default_scope'),
        (
            "custom_imports = dict(imports=['os', 'antigravity'])",
            'imports = .os',
        ),
        ("custom_imports = dict(imports='mmba2m.none')", 'imports No module'),
        # what hosts look up by other keys
        ("a = dict(type='ConvModule', padding_mode='os.system')", '_mode = '),
        ("a = [dict(collate_fn='mmengine.utils.misc.os.system')]", 'collate'),
        # what hosts evaluate
        ("a = dict(nms=dict(type='print(1)'))", r'a\.nms\.type = '),
        ("a = dict(type='ToTensor', dtype='float or print(1)')", r'a\.dtype'),
        ("a = dict(warp_mode='print(1)')", r'a\.warp_mode'),
        ("a = dict(teacher_config='evil.py')", 'teacher_config'),
        ('a = dict(trust_remote_code=True)', 'trust_remote_code'),
        ("a = dict(trust_remote_code='False')", 'trust_remote_code'),
        # what MMEngine does not escape
        ('a = {"b\': print(1), \'c": 1}', 'print'),
        ("a = {'b\\nprint(1)\\n': 1}", r'a\.b'),
    ],
)
def test_embedded_config_names_no_code_of_others(text, named):
    with pytest.raises(ValueError, match=f'^the config in it.*{named}'):
        read_embedded_config(embed(text))
    assert 'antigravity' not in sys.modules


def test_names_that_only_training_needs_are_no_code():
    """As of Albumentations, which looks them up itself."""
    text = "train_pipeline = [dict(transforms=[dict(type='MotionBlur')])]\n"
    text += "train_dataloader = dict(ann_file='test.txt', version='1.0')\n"
    text += "model = dict(warp_mode='cv2.MOTION_EUCLIDEAN')"
    read = read_embedded_config(embed(text))
    assert read.train_pipeline[0].transforms[0].type == 'MotionBlur'


def test_what_any_config_of_ours_builds_is_known():
    """Read as from a checkpoint."""
    for path in sorted((ROOT / 'configs').rglob('*ba2m*.py')):
        cfg = Config.fromfile(path)
        assert [*find_code(Config(cfg.to_dict()))] == [], path


def test_half_a_config_and_none_are_named():
    for text in (
        *('a = 1\nmodel = dict(b=2', '[' * 999, '-' * 99999 + '1', 'a\0'),
        *('dict(' * 99 + '+', 'a = {[]: 1}', "a = -'b'", 'filename = 1'),
    ):
        with pytest.raises(ValueError, match=r'config in it is|null bytes'):
            read_embedded_config(embed(text))
    for checkpoint in ({}, dict(meta=None), dict(meta=[1])):
        with pytest.raises(ValueError, match='no config'):
            read_embedded_config(checkpoint)
