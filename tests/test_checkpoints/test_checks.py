import pytest
import torch
from mmengine.model import BaseModule, PretrainedInit
from torch import nn

from mmba2m.checkpoints.checks import check_checkpoint, check_pretrained


class Network(nn.Module):
    def __init__(self, width=4, num_classes=3, ba2m=True):
        super().__init__()
        self.backbone = nn.ModuleDict(dict(conv=nn.Conv2d(3, width, 1)))
        if ba2m:
            self.backbone['ba2m'] = nn.Conv2d(width, 1, 1)
        self.head = nn.Linear(width, num_classes)


def check(checkpoint, strict):
    check_checkpoint(Network(), checkpoint, 'a.pth', strict)


def checkpoint_of(network):
    return dict(state_dict=network.state_dict(), meta={})


def test_the_same_network_fits_also_bare_and_wrapped():
    check(checkpoint_of(Network()), strict=True)
    state = {f'module.{k}': v for k, v in Network().state_dict().items()}
    check(state, strict=True)


def test_another_width_is_named_in_both_modes():
    for strict in (True, False):
        with pytest.raises(
            ValueError,
            match=r'a\.pth.*backbone\.conv\.weight is \(8, 3, 1, 1\), not '
            r'\(4, 3, 1, 1\)',
        ):
            check(checkpoint_of(Network(width=8)), strict)


@pytest.mark.parametrize('other', [dict(num_classes=5), dict(ba2m=False)])
def test_new_head_and_new_ba2m_only_fit_as_a_start(other):
    check(checkpoint_of(Network(**other)), strict=False)
    with pytest.raises(ValueError, match=r'head\.weight|backbone\.ba2m'):
        check(checkpoint_of(Network(**other)), strict=True)


def test_a_backbone_without_prefix_is_refused():
    with pytest.raises(ValueError, match=r'missing: backbone\.conv\.weight'):
        check(checkpoint_of(Network().backbone), strict=False)


def test_what_are_no_weights_is_named():
    with pytest.raises(ValueError, match=r'a\.pth: no weights, but epoch'):
        check(dict(epoch=3), strict=False)


# What init_cfg loads


class Backbone(BaseModule):
    def __init__(self, width=4, ba2m=True, stem=3, **init_cfg):
        super().__init__(init_cfg=dict(init_cfg, type='Pretrained'))
        self.stem = nn.Conv2d(3, stem, 1)
        self.layer1 = nn.Sequential(
            nn.Conv2d(3, width, 1), nn.BatchNorm2d(width)
        )
        if ba2m:
            self.layer1.add_module('ba2m', nn.Conv2d(width, 1, 1))


def detector(*args, **kwargs):
    return nn.ModuleDict(dict(backbone=Backbone(*args, **kwargs)))


def save(network, path):
    torch.save(checkpoint_of(network), path)
    return str(path)


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


def test_pretrained_backbone_fits_but_for_ba2m_and_the_head(
    tmp_path, warnings
):
    plain = Backbone(ba2m=False).state_dict()
    plain['fc.weight'] = torch.zeros(2, 2)
    torch.save(plain, tmp_path / 'a.pth')
    model = detector(checkpoint=str(tmp_path / 'a.pth'))
    read = check_pretrained(model)
    assert read.keys() == {str(tmp_path / 'a.pth')}
    assert loads(model)
    path = save(detector(), tmp_path / 'b.pth')
    for prefix in ('backbone', 'backbone.'):
        model = detector(checkpoint=path, prefix=prefix)
        check_pretrained(model)
        assert loads(model)
    assert not warnings


def test_a_missing_prefix_loads_nothing_and_is_an_error(tmp_path):
    path = save(detector(), tmp_path / 'whole.pth')
    model = detector(checkpoint=path)
    assert not loads(model)  # and MMEngine goes on
    with pytest.raises(ValueError, match=r'backbone: init_cfg loads') as info:
        check_pretrained(model)
    assert 'loads 0 of 8 weights from' in str(info.value)
    assert "whole.pth with prefix=''" in str(info.value)
    assert "Did you mean prefix='backbone.'?" in str(info.value)
    plain = save(detector()['backbone'], tmp_path / 'plain.pth')
    model = detector(checkpoint=plain, prefix='backbone.')
    with pytest.raises(ValueError, match="Did you mean prefix=''"):
        check_pretrained(model)


def test_few_weights_are_an_error_and_most_a_warning(tmp_path, warnings):
    path = save(detector(width=8)['backbone'], tmp_path / 'wide.pth')
    with pytest.raises(
        ValueError, match=r'loads 2 of 8 .*layer1\.0\.weight is'
    ):
        check_pretrained(detector(checkpoint=path))
    assert not warnings
    path = save(detector(stem=2)['backbone'], tmp_path / 'stem.pth')
    check_pretrained(detector(checkpoint=path))
    (warning,) = warnings
    assert 'loads 6 of 8 weights' in warning
    assert 'stem.weight is (2, 3, 1, 1), not (3, 3, 1, 1)' in warning


def test_every_form_of_init_cfg_is_seen(tmp_path):
    model = detector()
    missing = dict(type=PretrainedInit, checkpoint='none.pth')
    other = dict(type='Constant', layer='Conv2d', val=1)
    model['backbone'].init_cfg = [other, missing]
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        check_pretrained(model)
    model['backbone'].init_cfg = other
    assert check_pretrained(model) == {}
