import copy
import pickle
from importlib import import_module

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from networks import make_images, randomize, train
from slot_modules import (
    Gate,
    Reader,
    ScaledConv,
    Shift,
    build,
    build_pair,
    compose,
    each_depth,
    each_host,
    needs_mmpretrain,
    points,
)
from torch import nn

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


# What a block computes


@each_host
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    ('depth', 'cls', 'position'),
    [(depth, *point) for depth in (18, 50) for point in points(depth)],
)
def test_block_is_the_composition_of_its_parts(
    host, depth, cls, position, training
):
    network, plain = build_pair(
        host, dict(type=cls, position=position), depth=depth
    )
    # a stride and a convolution in the shortcut, or neither
    for i in (0, 1):
        x = torch.randn(3, network.layer2[i].conv1.in_channels, 5, 6).double()
        block, theirs = network.layer2[i], plain.layer2[i]
        block.train(training)
        theirs.train(training)
        child = position if cls is ScaledConv else cls.__name__.lower()
        module = copy.deepcopy(getattr(block, child))
        one, two = (x.clone().requires_grad_() for _ in range(2))
        y = block(one)
        expected = compose(theirs, two, cls, position, module)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
        without = copy.deepcopy(theirs)(x)
        assert not torch.allclose(y, without, rtol=1e-4)

        weights = torch.randn_like(y)
        (y * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(one.grad, two.grad)
        grads = dict(module.named_parameters(prefix=child))
        grads = {**dict(theirs.named_parameters()), **grads}
        for name, parameter in block.named_parameters():
            assert parameter.grad.any(), name
            torch.testing.assert_close(parameter.grad, grads[name].grad)


@each_host
@each_depth
@pytest.mark.parametrize('stages', [(True, False), [0, 1]])
def test_behind_a_stage_the_map_is_handed_on(host, depth, stages):
    network, plain = build_pair(
        host,
        dict(type=Gate, position='after_stage', stages=stages),
        depth=depth,
    )
    x = make_images(3).double()
    outs = train(network)(x)
    x = train(plain)(x)[0]
    for i, out in enumerate(outs):
        stage = getattr(network, f'layer{i + 1}')
        assert hasattr(stage, 'gate') == stages[i]
        if i:
            x = getattr(plain, f'layer{i + 1}')(x)
        if hasattr(stage, 'gate'):
            x = stage.gate(x)
        torch.testing.assert_close(out, x)


@each_host
@each_depth
@pytest.mark.parametrize('position', ['after_conv1', 'residual'])
def test_modules_run_in_the_order_of_the_list(host, depth, position):
    entries = [
        dict(type=Gate, position=position),
        dict(type=Shift, position=position),
        dict(type=Gate, position=position, postfix='_2'),
    ]
    x = torch.randn(2, 8 if depth == 18 else 32, 4, 4).double()
    for order in ((0, 1, 2), (1, 0, 2)):
        network, plain = build_pair(
            host, [entries[i] for i in order], depth=depth
        )
        block = network.layer2[0]
        modules = [(block.gate, block.shift, block.gate_2)[i] for i in order]
        expected = compose(
            plain.layer2[0], x, Gate, position, nn.Sequential(*modules)
        )
        torch.testing.assert_close(block(x), expected)


@each_host
@pytest.mark.parametrize('position', ['after_conv1', 'after_conv3'])
def test_plugins_run_first(host, position):
    """MMDetection's own, and the same option for MMPretrain."""
    network, plain = build_pair(host, None, depth=50)
    network = build(
        host,
        dict(type=Shift, position=position.replace('after_conv3', 'residual')),
        depth=50,
        plugins=[dict(cfg=dict(type=Gate), position=position)],
    )
    randomize(network)
    plain.load_state_dict(network.state_dict(), strict=False)
    block = network.layer2[0]
    gate = Gate(block.gate.fc.in_channels).double()
    gate.load_state_dict(block.gate.state_dict())
    x = torch.randn(2, 32, 4, 4).double()
    expected = compose(
        plain.layer2[0],
        x,
        Gate,
        position,
        nn.Sequential(gate, block.shift),
    )
    torch.testing.assert_close(block(x), expected)


@each_host
@pytest.mark.parametrize(
    'position', ['after_conv1', 'after_conv2', 'after_conv3']
)
def test_equals_plugins(host, position):
    stages = (False, True)
    ours = build(
        host,
        dict(type=Gate, bias=False, position=position, stages=stages),
        depth=50,
    )
    theirs = build(
        host,
        name='ResNet' if host == 'mmdet' else 'AttentionResNet',
        depth=50,
        plugins=[
            dict(
                cfg=dict(type=Gate, bias=False),
                position=position,
                stages=stages,
            )
        ],
    )
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(randomize(theirs).state_dict())
    x = make_images(3).double()
    outs = train(ours)(x), train(theirs)(x)
    torch.testing.assert_close(*outs, rtol=0, atol=1e-10)


@each_host
@each_depth
@pytest.mark.parametrize('cls', [Gate, Reader])
@pytest.mark.parametrize('convert', ['revert', 'convert', 'fuse'])
def test_a_norm_that_is_replaced_takes_no_module_away(
    host, depth, cls, convert
):
    network = build(
        host,
        dict(type=cls, position='residual'),
        depth=depth,
        norm_cfg=dict(type='SyncBN' if convert == 'revert' else 'BN'),
    )
    randomize(network).eval()
    x = make_images().double()
    expected = network(x)
    change = dict(
        revert=revert_sync_batchnorm,
        convert=lambda network: convert_sync_batchnorm(network, 'torch'),
        fuse=fuse_conv_bn,
    )[convert]
    norm = network.layer1[0].norm2
    network = train(change(network), False)
    assert network.layer1[0].norm2 is not norm
    for _ in range(2):  # and none runs twice
        torch.testing.assert_close(network(x), expected)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(network)))
    torch.testing.assert_close(copied(x), expected)


# Networks

EVERYTHING = [
    dict(type=Gate, position='after_stage', stages=(0, 1)),
    dict(type=Gate, position='after_conv1'),
    dict(type=Reader, stages=(0, 1)),
    dict(type=Gate, postfix=2, bias=False),
    dict(type=ScaledConv),
    dict(type='BA2M', position='after_conv2', reduction=4),
]
BA2M = dict(name='BA2MResNet', ba2m_cfg=dict(reduction=8))


@each_host
@each_depth
@pytest.mark.parametrize('frozen_stages', [-1, 1])
def test_everything_at_the_same_time(host, depth, frozen_stages):
    plugins = {}
    if host == 'mmpretrain' or depth == 50:
        cfg = dict(type=Shift)
        plugins = dict(plugins=[dict(cfg=cfg, position='after_conv1')])
    network = build(
        host,
        EVERYTHING,
        depth=depth,
        frozen_stages=frozen_stages,
        **plugins,
        **BA2M,
    )
    train(randomize(network))
    stage = network.layer2
    assert [n for n, _ in stage.named_children()][-2:] == ['gate', 'ba2m']
    assert network.attention_names[-2:] == ['layer1.ba2m', 'layer2.ba2m']
    for name in ('gate', 'gate2', 'reader', 'conv2', 'ba2m'):
        assert f'layer2.0.{name}' in network.attention_names
    loss = sum(out.square().mean() for out in network(make_images(4).double()))
    loss.backward()
    for name, parameter in network.named_parameters():
        stem = name.startswith(('conv1', 'bn1'))
        frozen = frozen_stages == 1 and (stem or name.startswith('layer1'))
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) == frozen, name
    for name in network.attention_names:
        module = network.get_submodule(name)
        frozen = frozen_stages == 1 and name.startswith('layer1')
        assert module.training != frozen, name


@each_host
def test_nothing_trains_behind_what_is_put_out(host):
    network = build(host, EVERYTHING, out_indices=(0,), **BA2M)
    for name in network.attention_names:
        used = name.startswith('layer1')
        for parameter in network.get_submodule(name).parameters():
            assert parameter.requires_grad == used


@each_host
@pytest.mark.parametrize('name', ['AttentionResNet', 'BA2MResNet'])
def test_without_the_option_nothing_is_added(host, name):
    options = BA2M if name == 'BA2MResNet' else {}
    plain = build(host, **options)
    for attention in ([], (), None):
        network = build(host, attention, **options)
        assert network.state_dict().keys() == plain.state_dict().keys()
    stock = build(host, name='ResNet')
    theirs = [k for k in plain.state_dict() if 'ba2m' not in k]
    assert theirs == list(stock.state_dict())


@each_host
@each_depth
def test_stock_checkpoint_loads(host, depth):
    stock = randomize(build(host, name='ResNet', depth=depth)).state_dict()
    network = build(host, EVERYTHING, depth=depth, **BA2M)
    missing, unexpected = network.load_state_dict(stock, strict=False)
    assert not unexpected
    own = ('.gate.', '.gate2.', '.reader.', '.ba2m.', '.conv2.scale')
    assert all(any(name in key for name in own) for key in missing)
    state = network.state_dict()
    for key in stock:
        assert torch.equal(state[key], stock[key]), key


@pytest.mark.parametrize('name', ['ResNeXt', 'ResNet_CIFAR', 'ResNeXt_CIFAR'])
@pytest.mark.parametrize('ba2m', [True, False])
@each_host
def test_other_backbones(host, name, ba2m):
    if host == 'mmdet' and name != 'ResNeXt':
        pytest.skip('MMDetection has no backbones for CIFAR')
    options = dict(depth=50)
    if 'ResNeXt' in name:
        width = dict(mmdet='base_width', mmpretrain='width_per_group')[host]
        options.update({'groups': 4, width: 8})
    prefix = 'Attention'
    if ba2m:
        prefix = 'BA2M'
        options.update(ba2m_cfg=dict(reduction=8))
    network = build(host, EVERYTHING, name=prefix + name, **options)
    conv2 = network.layer2[0].conv2
    assert type(conv2) is ScaledConv
    assert conv2.groups == (4 if 'ResNeXt' in name else 1)
    assert conv2.stride == (2, 2)
    assert hasattr(network.layer1, 'ba2m') == ba2m
    out = train(randomize(network))(make_images(4).double())[-1]
    out.square().mean().backward()
    for name, parameter in network.layer2.named_parameters():
        # of BA2M's, some have no effect on so small a map
        assert parameter.grad is not None, name
        assert 'ba2m' in name or parameter.grad.any(), name


@needs_mmpretrain
@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('PreResNet', dict(depths=(1, 1, 1))),
        (
            'DenseNet',
            dict(arch=dict(growth_rate=8, depths=[2, 2, 2], init_channels=16)),
        ),
        ('ShuffleNetV2', dict()),
        ('MobileNetV2', dict()),
        ('EfficientNet', dict(arch='b0')),
    ],
)
def test_other_families_take_it_behind_stages(name, options):
    registry = import_module('mmpretrain.registry').MODELS
    cfg = dict(type=f'BA2M{name}_CIFAR', ba2m_cfg=dict(reduction=4), **options)
    with pytest.raises(
        ValueError, match=r"one of \['after_stage'\], got 'res"
    ):
        registry.build(dict(cfg, attention=dict(type=Gate)))
    entry = dict(type=Gate, position='after_stage')
    network = registry.build(dict(cfg, attention=entry))
    order = [n.split('.')[-1] for n, _ in network.named_modules()]
    order = [name for name in order if name in ('gate', 'ba2m')]
    stages = len(network._stage_list)
    assert order == ['gate', 'ba2m'] * stages
    network.train()
    assert network(make_images())[-1].isfinite().all()


@each_host
@each_depth
def test_with_cp_changes_nothing(host, depth):
    networks = [
        build(host, EVERYTHING, depth=depth, with_cp=with_cp, **BA2M)
        for with_cp in (False, True)
    ]
    randomize(networks[0])
    networks[1].load_state_dict(networks[0].state_dict())
    x = make_images(4).double()
    results = []
    for network in networks:
        outs = train(network)(x)
        outs[-1].square().mean().backward()
        grads = {name: p.grad for name, p in network.named_parameters()}
        assert all(grad is not None for grad in grads.values())
        results.append((outs, grads))
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-10)


@each_host
@each_depth
def test_copies_are_of_their_own(host, depth):
    network = train(randomize(build(host, EVERYTHING, depth=depth)), False)
    x = make_images().double()
    before = network(x)
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        torch.testing.assert_close(other(x), before)
        for parameter in other.parameters():
            parameter.data.zero_()
        torch.testing.assert_close(network(x), before)
        assert not other(x)[-1].any()


@each_host
def test_a_forward_that_failed_leaves_nothing(host):
    network = train(randomize(build(host, dict(type=Reader), depth=50)), False)
    x = make_images().double()
    expected = network(x)
    handle = network.layer1[0].conv3.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        network(x.requires_grad_())
    handle.remove()
    torch.testing.assert_close(copy.deepcopy(network)(x), expected)
    torch.testing.assert_close(network(x), expected)


@each_host
@each_depth
def test_a_module_may_be_wrapped_later(host, depth):
    network = randomize(build(host, dict(type=Gate), depth=depth))
    x = make_images().double()
    before = network(x)[-1]
    for layer in (network.layer1, network.layer2):
        for block in layer:
            block.gate = nn.Identity()
    after = network(x)[-1]
    assert not torch.allclose(after, before)
    plain = build(host, name='ResNet', depth=depth)
    plain.load_state_dict(network.state_dict(), strict=False)
    block, theirs = network.layer1[1], plain.layer1[1]
    x = torch.randn(2, block.conv1.in_channels, 4, 4).double()
    torch.testing.assert_close(block(x), theirs(x))


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
