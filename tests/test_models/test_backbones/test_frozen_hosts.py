"""Norms of modules in hosts that freeze theirs, and what is frozen at all."""

import pytest
import torch
from test_ba2m_stages import build

from mmba2m import HOSTS
from mmba2m.models.attentions.norm import BranchNorm

pytestmark = [
    pytest.mark.filterwarnings('ignore:BA2M'),
    pytest.mark.parametrize('host', HOSTS),
]


def test_what_a_user_freezes_stays_frozen(host):
    network = build(host, frozen_stages=1)
    network.layer1.ba2m.requires_grad_(False)
    network.train()
    assert not any(p.requires_grad for p in network.layer1.ba2m.parameters())
    assert all(p.requires_grad for p in network.layer2.ba2m.parameters())


@pytest.mark.parametrize('norm_eval', [True, False])
def test_an_explicit_norm_wins(host, norm_eval):
    gn = dict(type='GN', num_groups=1)
    cfg = dict(reduction=4, norm_cfg=gn)
    network = build(host, norm_eval=norm_eval, ba2m_cfg=cfg)
    norms = [m.norm for m in network.modules() if isinstance(m, BranchNorm)]
    assert all(isinstance(norm, torch.nn.GroupNorm) for norm in norms)
    assert len(norms) == 4 * (2 + 4 + 2)


@pytest.mark.parametrize('trained_with, other', [('BN', 'GN'), ('GN', 'BN')])
def test_weights_of_another_kind_of_norm_are_refused(
    host, trained_with, other
):
    cfgs = {
        'BN': dict(type='BN'),
        'GN': dict(type='GN', num_groups=1),
    }
    one, two = (
        build(host, ba2m_cfg=dict(reduction=4, norm_cfg=cfgs[kind]))
        for kind in (trained_with, other)
    )
    message = f"layer1.ba2m: the weights .* dict.type='{trained_with}'"
    with pytest.raises(ValueError, match=message):
        two.load_state_dict(one.state_dict(), strict=False)
    # a plain checkpoint has none, and running statistics are of one kind
    plain = {k: v for k, v in one.state_dict().items() if 'ba2m' not in k}
    two.load_state_dict(plain, strict=False)
    if trained_with == 'BN':
        build(host, norm_eval=True).load_state_dict(one.state_dict())


def test_dead_norms_of_other_modules_are_named(host):
    network = build(
        host,
        'AttentionResNet',
        depth=50,
        norm_eval=True,
        attention=[dict(type='CBAM', reduction=2), dict(type='SE')],
    )
    with pytest.warns(UserWarning, match='CBAM: batch norms of') as told:
        network.train()
        network.train()
    assert len(told) == 1
