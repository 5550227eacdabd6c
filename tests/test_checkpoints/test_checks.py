import pytest
import torch
from mmengine.model import BaseModule, PretrainedInit
from torch import nn

from mmba2m.checkpoints.checks import check_checkpoint, check_pretrained


class Backbone(BaseModule):
    def __init__(self, width=4, ba2m=True, stem=3, **init_cfg):
        super().__init__(init_cfg=dict(init_cfg, type='Pretrained'))
        self.stem = nn.Conv2d(3, stem, 1)
        self.layer1 = nn.Sequential(
            nn.Conv2d(3, width, 1), nn.BatchNorm2d(width)
        )
        if ba2m:
            self.layer1.add_module('ba2m', nn.Conv2d(width, 1, 1))


def network(num_classes=3, **kwargs):
    parts = dict(backbone=Backbone(**kwargs), head=nn.Linear(4, num_classes))
    return nn.ModuleDict(parts)


def check(checkpoint, strict):
    check_checkpoint(network(), checkpoint, 'a.pth', strict)


def checkpoint_of(network):
    return dict(state_dict=network.state_dict(), meta={})


def test_the_same_network_fits_also_bare_and_wrapped():
    check(checkpoint_of(network()), strict=True)
    state = network().state_dict()
    check({f'module.{key}': v for key, v in state.items()}, strict=True)


@pytest.mark.parametrize('other', [dict(num_classes=5), dict(ba2m=False)])
def test_new_head_and_new_ba2m_only_fit_as_a_start(other):
    check(checkpoint_of(network(**other)), strict=False)
    with pytest.raises(ValueError, match=r'head\.weight|backbone\..*ba2m'):
        check(checkpoint_of(network(**other)), strict=True)


WIDE = r'backbone\.layer1\.0\.weight is \(8, 3, 1, 1\), not \(4, 3, 1, 1\)'


@pytest.mark.parametrize(
    'checkpoint, strict, named',
    [
        (checkpoint_of(network(width=8)), True, WIDE),
        (checkpoint_of(network(width=8)), False, WIDE),
        (checkpoint_of(Backbone()), False, r'missing: backbone\.stem\.weight'),
        (dict(epoch=3), False, 'no weights, but epoch'),
    ],
)
def test_what_is_of_another_network_is_named(checkpoint, strict, named):
    with pytest.raises(ValueError, match=r'a\.pth.*' + named):
        check(checkpoint, strict)


# What init_cfg loads


@pytest.fixture
def save(tmp_path):
    def save(network, name='a.pth'):
        torch.save(checkpoint_of(network), tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmba2m.checkpoints.checks.print_log',
        lambda message, logger, level: lines.append(message),
    )
    return lines


def loads(model):
    """Whether MMEngine changes the first weight at all."""
    before = model['backbone'].stem.weight.clone()
    model['backbone'].init_weights()
    return not torch.equal(before, model['backbone'].stem.weight)


def test_pretrained_backbone_fits_but_for_ba2m_and_the_head(save, warnings):
    plain = Backbone(ba2m=False)
    plain.fc = nn.Linear(2, 2)
    whole = save(network(), 'whole.pth')
    for path, prefix in (
        (save(plain), {}),
        (whole, dict(prefix='backbone')),
        (whole, dict(prefix='backbone.')),
    ):
        model = network(checkpoint=path, **prefix)
        assert check_pretrained(model).keys() == {path}
        assert loads(model)
    assert not warnings


def test_a_missing_prefix_loads_nothing_and_is_an_error(save):
    model = network(checkpoint=save(network(), 'whole.pth'))
    assert not loads(model)  # and MMEngine goes on
    with pytest.raises(
        ValueError,
        match=r'backbone: init_cfg loads 0 of 8 weights from .*whole\.pth '
        r"with prefix=''.*Did you mean prefix='backbone\.'\?",
    ):
        check_pretrained(model)
    model = network(checkpoint=save(Backbone()), prefix='backbone.')
    with pytest.raises(ValueError, match="Did you mean prefix=''"):
        check_pretrained(model)


def test_few_weights_are_an_error_and_most_a_warning(save, warnings):
    path = save(Backbone(width=8))
    with pytest.raises(
        ValueError, match=r'loads 2 of 8 .*layer1\.0\.weight is'
    ):
        check_pretrained(network(checkpoint=path))
    assert not warnings
    check_pretrained(network(checkpoint=save(Backbone(stem=2))))
    (warning,) = warnings
    assert 'loads 6 of 8 weights' in warning
    assert 'stem.weight is (2, 3, 1, 1), not (3, 3, 1, 1)' in warning


def test_every_form_of_init_cfg_is_seen():
    model = network()
    missing = dict(type=PretrainedInit, checkpoint='none.pth')
    other = dict(type='Constant', layer='Conv2d', val=1)
    model['backbone'].init_cfg = [other, missing]
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        check_pretrained(model)
    model['backbone'].init_cfg = other
    assert check_pretrained(model) == {}
