import pytest
from torch import nn

from mmba2m.models.attentions import SE
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.checkpoints.benchmark.networks import (
    SETTINGS,
    build_network,
    describe_network,
    label_network,
)

SMALL = dict(depth=18, base_channels=16, stem_channels=16)


@pytest.fixture(autouse=True, params=['cifar', 'detection'])
def setting(request):
    pytest.importorskip(SETTINGS[request.param]['scope'])
    return dict(SETTINGS[request.param], size=(32, 32))


def find(network, kind):
    return [m for m in network.modules() if isinstance(m, kind)]


def test_networks_differ_in_their_attention_only(setting):
    plain = build_network('plain', setting, SMALL)
    assert not find(plain, (BA2M, SE))
    ba2m = build_network('ba2m', setting, SMALL)
    assert [m.inference for m in find(ba2m, BA2M)] == ['population'] * 4
    identity = build_network('ba2m_identity', setting, SMALL)
    assert [m.inference for m in find(identity, BA2M)] == ['identity'] * 4
    se = build_network('se', setting, SMALL)
    assert len(find(se, SE)) == 8
    names = set(plain.state_dict())
    for network in (ba2m, identity, se):
        assert names < set(network.state_dict())
    stripped = build_network('stripped', setting, SMALL)
    assert type(stripped) is type(plain)
    assert stripped.state_dict().keys() == plain.state_dict().keys()


def test_all_of_a_detectors_backbone_is_trained(setting):
    network = build_network('plain', setting, SMALL)
    network.train()
    assert all(p.requires_grad for p in network.parameters())
    assert all(m.training for m in find(network, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ('name', 'label', 'kind'),
    [('aw_conv', 'AWConv2d', 'conv2'), ('GC', 'GC', 'residual')],
)
def test_attention_is_found_by_type_or_abbreviation(
    setting, name, label, kind
):
    assert label_network(name) == label
    assert describe_network(name, setting)[0]['attention']['type'] == label


def test_a_module_for_one_size_gets_that_of_the_images(setting):
    attention = describe_network('ge', setting)[0]['attention']
    assert attention['input_size'] == (32, 32)


def test_a_config_gives_its_backbone(setting, tmp_path):
    config = tmp_path / 'mine.py'
    kind = setting['backbone']['type']
    config.write_text(
        f"default_scope = '{setting['scope']}'\n"
        f"model = dict(backbone=dict(type='{kind}', depth=18, init_cfg=dict("
        "type='Pretrained', checkpoint='nowhere.pth')))\n"
    )
    network = build_network(str(config), setting, SMALL)
    assert type(network) is type(build_network('plain', setting, SMALL))
    assert 'Pretrained' not in str(network.init_cfg)
    assert label_network(str(config)) == 'mine'
    config.write_text('model = dict()')
    with pytest.raises(ValueError, match=r'mine.py has no model.backbone'):
        build_network(str(config), setting)


def test_an_unknown_network_is_named(setting):
    with pytest.raises(ValueError, match=r"no network 'sse'; there are plain"):
        build_network('sse', setting)
