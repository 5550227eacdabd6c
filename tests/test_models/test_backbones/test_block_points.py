"""What a block computes with a module in it."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from networks import (
    CONVS,
    Gate,
    Reader,
    ScaledConv,
    Shift,
    build,
    build_pair,
    compose,
    each_depth,
    each_host,
    make_images,
    randomize,
    train,
)
from torch import nn

from mmba2m import HOSTS

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

POINTS = [
    (depth, *point)
    for depth in (18, 50)
    for point in [
        *((Gate, f'after_{conv}') for conv in CONVS[depth]),
        (Gate, 'residual'),
        (Reader, 'residual'),
        (Reader, 'after_conv2'),
        *((ScaledConv, conv) for conv in CONVS[depth]),
    ]
]


@each_host
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(('depth', 'cls', 'position'), POINTS)
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


def to_plugins(*entries):
    """The same by MMDetection's own option."""
    plugins = []
    for entry in entries:
        cfg = dict(entry)
        outside = {k: cfg.pop(k) for k in ('position', 'stages') if k in cfg}
        if cfg['type'] == 'BA2M':
            cfg['type'] = 'mmba2m.BA2M'
        plugins.append(dict(cfg=cfg, **outside))
    return plugins


BA2M = dict(type='BA2M', reduction=4)
BLOCKS = dict(depth=50, num_stages=2)


@pytest.mark.skipif('mmdet' not in HOSTS, reason='compares with MMDetection')
@each_host
@pytest.mark.parametrize(
    'entries',
    [
        [dict(BA2M, position='after_conv2')],
        [
            dict(BA2M, position='after_conv1', stages=(False, True)),
            dict(BA2M, position='after_conv3', postfix='_2'),
        ],
        [dict(type=Gate, bias=False, position='after_conv3')],
    ],
    ids=str,
)
def test_equals_the_plugins_of_mmdet(host, entries):
    """Outputs, gradients and keys: checkpoints carry over between hosts."""
    ours = build(host, entries, **BLOCKS)
    plugins = to_plugins(*entries)
    theirs = build('mmdet', name='ResNet', plugins=plugins, **BLOCKS)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(randomize(theirs).state_dict())
    x = make_images(3)
    for training in (True, False):
        results = []
        for network in (ours, theirs):
            outs = train(network, training)(x)
            network.zero_grad()
            sum(out.square().mean() for out in outs).backward()
            grads = {n: p.grad for n, p in network.named_parameters()}
            results.append((outs, grads, network.state_dict()))
        torch.testing.assert_close(*results, rtol=1e-6, atol=1e-9)


@pytest.mark.skipif('mmdet' not in HOSTS, reason='is of MMDetection')
@pytest.mark.parametrize('position', ['after_conv1', 'after_conv3'])
def test_plugins_run_first(position):
    last = position == 'after_conv3'
    ours = dict(type=Shift, position='residual' if last else position)
    gate = dict(type=Gate, position=position)
    network = randomize(
        build('mmdet', ours, plugins=to_plugins(gate), **BLOCKS)
    )
    plain = build('mmdet', name='ResNet', **BLOCKS)
    plain.load_state_dict(network.state_dict(), strict=False)
    block = network.layer2[0]
    gate = Gate(block.gate.fc.in_channels).double()
    gate.load_state_dict(block.gate.state_dict())
    x = torch.randn(2, 32, 4, 4).double()
    both = nn.Sequential(gate, block.shift)
    expected = compose(plain.layer2[0], x, Gate, position, both)
    torch.testing.assert_close(block(x), expected)


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
    x = make_images()
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


@each_host
def test_a_forward_that_failed_leaves_nothing(host):
    network = train(randomize(build(host, dict(type=Reader), depth=50)), False)
    x = make_images()
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
    network, plain = build_pair(host, dict(type=Gate), depth=depth)
    x = make_images()
    assert not torch.allclose(network(x)[-1], plain(x)[-1])
    for layer in (network.layer1, network.layer2):
        for block in layer:
            block.gate = nn.Identity()
    torch.testing.assert_close(train(network)(x), train(plain)(x))
