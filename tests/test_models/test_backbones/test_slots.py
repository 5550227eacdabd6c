"""Networks with modules in their blocks and behind their stages."""

import copy
import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from networks import (
    Gate,
    Reader,
    ScaledConv,
    Shift,
    build,
    build_pair,
    each_depth,
    each_host,
    make_images,
    randomize,
    train,
)
from torch import nn

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

EVERYTHING = [
    dict(type=Gate, position='after_stage', stages=(0, 1)),
    dict(type=Gate, position='after_conv1'),
    dict(type=Shift),
    dict(type=Reader, stages=(0, 1)),
    dict(type=Gate, postfix=2, bias=False),
    dict(type=ScaledConv),
    dict(type='BA2M', position='after_conv2', reduction=4),
]
BA2M = dict(name='BA2MResNet', ba2m_cfg=dict(reduction=8))


@each_host
@each_depth
@pytest.mark.parametrize('stages', [(True, False), [0, 1]])
def test_behind_a_stage_the_map_is_handed_on(host, depth, stages):
    place = dict(position='after_stage', stages=stages)
    entries = [dict(type=Gate, **place), dict(type='BA2M', **place)]
    entries[1]['reduction'] = 4
    network, plain = build_pair(host, entries, depth=depth)
    x = make_images(3)
    outs = train(network)(x)
    x = train(plain)(x)[0]
    for i, out in enumerate(outs):
        stage = getattr(network, f'layer{i + 1}')
        assert hasattr(stage, 'gate') == stages[i]
        if i:
            x = getattr(plain, f'layer{i + 1}')(x)
        if hasattr(stage, 'gate'):
            gated = stage.gate(x)
            x = stage.ba2m(gated)
            assert not torch.allclose(x, gated, rtol=1e-3)
        torch.testing.assert_close(out, x)


@each_host
@each_depth
@pytest.mark.parametrize('frozen_stages', [-1, 1])
def test_everything_at_the_same_time(host, depth, frozen_stages):
    network = build(
        host, EVERYTHING, depth=depth, frozen_stages=frozen_stages, **BA2M
    )
    train(randomize(network))
    stage = network.layer2
    assert [n for n, _ in stage.named_children()][-2:] == ['gate', 'ba2m']
    assert network.attention_names[-2:] == ['layer1.ba2m', 'layer2.ba2m']
    for name in ('gate', 'gate2', 'reader', 'conv2', 'ba2m'):
        assert f'layer2.0.{name}' in network.attention_names
    sum(out.square().mean() for out in network(make_images(4))).backward()
    for name, parameter in network.named_parameters():
        stem = name.startswith(('conv1', 'bn1'))
        behind = name.startswith(('layer1.ba2m', 'layer1.gate'))
        in_stage = name.startswith('layer1') and not behind
        frozen = frozen_stages == 1 and (stem or in_stage)
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) == frozen, name
    for name in network.attention_names:
        module = network.get_submodule(name)
        in_block = name.startswith('layer1.') and name[7].isdigit()
        frozen = frozen_stages == 1 and in_block
        assert module.training != frozen, name


@each_host
def test_nothing_trains_behind_what_is_put_out(host):
    network = build(host, EVERYTHING, out_indices=(0,), **BA2M)
    for name in network.attention_names:
        used = name.startswith('layer1')
        for parameter in network.get_submodule(name).parameters():
            assert parameter.requires_grad == used


@each_host
@pytest.mark.parametrize(
    ('name', 'depth'),
    [('ResNet', 18), ('ResNet', 50), ('ResNeXt', 50), ('ResNet_CIFAR', 18)],
)
def test_stock_checkpoint_loads(host, name, depth):
    if host == 'mmdet' and name == 'ResNet_CIFAR':
        pytest.skip('MMDetection has no backbones for CIFAR')
    stock = randomize(build(host, name=name, depth=depth)).state_dict()
    options = dict(BA2M, name=f'BA2M{name}', depth=depth)
    network = build(host, EVERYTHING, **options)
    missing, unexpected = network.load_state_dict(stock, strict=False)
    assert not unexpected
    own = ('.gate.', '.gate2.', '.reader.', '.ba2m.', '.conv2.scale')
    assert all(any(name in key for name in own) for key in missing)
    state = network.state_dict()
    for key in stock:
        assert torch.equal(state[key], stock[key]), key
    options['ba2m_stages'] = (False, False)
    for nothing in ([], (), None):
        network = build(host, nothing, **options)
        assert list(network.state_dict()) == list(stock)


@pytest.mark.parametrize('name', ['ResNeXt', 'ResNet_CIFAR', 'ResNeXt_CIFAR'])
@pytest.mark.parametrize('ba2m', [True, False])
@each_host
def test_other_backbones(host, name, ba2m):
    if host == 'mmdet' and name != 'ResNeXt':
        pytest.skip('MMDetection has no backbones for CIFAR')
    options = dict(name=f'Attention{name}', depth=50)
    if ba2m:
        options.update(name=f'BA2M{name}', ba2m_cfg=dict(reduction=8))
    network = build(host, EVERYTHING, **options)
    conv2 = network.layer2[0].conv2
    assert type(conv2) is ScaledConv
    assert conv2.groups == (4 if 'ResNeXt' in name else 1)
    assert conv2.stride == (2, 2)
    assert hasattr(network.layer1, 'ba2m') == ba2m
    train(randomize(network))(make_images(4))[-1].square().mean().backward()
    for name, parameter in network.layer2.named_parameters():
        # of BA2M's, some have no effect on so small a map
        assert parameter.grad is not None, name
        assert 'ba2m' in name or parameter.grad.any(), name


@each_host
@each_depth
def test_with_cp_changes_nothing(host, depth):
    networks = [
        build(host, EVERYTHING, depth=depth, with_cp=with_cp, **BA2M)
        for with_cp in (False, True)
    ]
    randomize(networks[0])
    networks[1].load_state_dict(networks[0].state_dict())
    x = make_images(4)
    results = []
    for network in networks:
        outs = train(network)(x)
        outs[-1].square().mean().backward()
        grads = {name: p.grad for name, p in network.named_parameters()}
        assert all(grad is not None for grad in grads.values())
        normalizers = {
            name: buffer
            for name, buffer in network.named_buffers()
            if name.endswith('running_normalizer')
        }
        assert len(normalizers) > 2
        results.append((outs, grads, normalizers))
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-10)


@each_host
@each_depth
def test_compiles_in_one_graph(host, depth):
    entries = [e for e in EVERYTHING if e['type'] != 'BA2M']  # has a test
    stage = randomize(build(host, entries, depth=depth)).layer2.eval()
    stage = nn.Sequential(stage[-2], stage[-1])  # a block and a gate
    other = copy.deepcopy(stage)
    x = torch.randn(2, stage[0].conv1.in_channels, 4, 4).double()
    with torch.no_grad():
        compiled = torch.compile(other, backend='eager', fullgraph=True)
        torch.testing.assert_close(compiled(x), stage(x))


def test_a_backbone_of_ones_own():
    """The example of docs/any_backbone.md."""
    page = Path(__file__).parents[3] / 'docs/any_backbone.md'
    (code,) = re.findall(
        r'^```python\n([^`]*class \w+\(\w+Mixin.*?)^```$',
        page.read_text('utf-8'),
        re.M | re.S,
    )
    exec(code, {})
    name = 'AttentionTwoStages'
    try:
        network = MODELS.build(dict(type=name, attention=dict(type='BA2M')))
    finally:
        MODELS._module_dict.pop(name)
    assert network.attention_names == ['first.ba2m', 'second.ba2m']
    images = make_images(2, size=64, dtype=torch.float32)
    train(network)(images)[-1].square().mean().backward()
    for i in network.attention_names:
        for parameter in network.get_submodule(i).parameters():
            assert parameter.grad is not None
