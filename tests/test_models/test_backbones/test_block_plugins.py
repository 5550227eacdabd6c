import copy
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from networks import make_images, randomize, train

from mmba2m import HOSTS
from mmba2m.models.attentions.ba2m import BA2M

models = pytest.importorskip('mmpretrain.registry')

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')
both_hosts = pytest.mark.skipif(
    len(HOSTS) < 2, reason='compares MMPretrain with MMDetection'
)

ALL = (0, 1, 2, 3)
POSITIONS = ('after_conv1', 'after_conv2', 'after_conv3')


def plugin(position='after_conv3', reduction=4, **kwargs):
    cfg = dict(type='mmba2m.BA2M', reduction=reduction)
    return dict(cfg=cfg, position=position, **kwargs)


def build(host, name='BA2MResNet', **kwargs):
    registry = import_module(f'{host}.registry').MODELS
    cfg = dict(type=name, depth=50, base_channels=8, stem_channels=8)
    cfg.update(out_indices=ALL, norm_eval=False)
    if name.startswith('BA2M'):
        cfg.update(ba2m_stages=(False,) * 4)
    return registry.build({**cfg, **kwargs}).double()


@both_hosts
@pytest.mark.parametrize(
    'plugins',
    [
        *([plugin(position)] for position in POSITIONS),
        [plugin(stages=(False, True, False, True))],
        [
            plugin(position, stages=(False, True, True, True))
            for position in POSITIONS[:1]
        ]
        + [
            dict(
                cfg=dict(type='mmba2m.BA2M', reduction=8, postfix='_2'),
                position='after_conv3',
            )
        ],
    ],
    ids=[*POSITIONS, 'two stages', 'two plugins'],
)
def test_equals_the_plugins_of_mmdet(plugins):
    theirs = randomize(build('mmdet', 'ResNet', plugins=plugins))
    ours = build('mmpretrain', plugins=plugins)
    plain = build('mmdet', 'ResNet')
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    plain.load_state_dict(theirs.state_dict(), strict=False)
    x = make_images(3).double()
    for training in (True, False):
        outs = train(ours, training)(x)
        expected = train(theirs, training)(x)
        torch.testing.assert_close(outs, expected, rtol=0, atol=1e-10)
        for out, without in zip(
            outs[1:], train(plain, training)(x)[1:], strict=True
        ):
            assert not torch.allclose(out, without, rtol=1e-4)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@both_hosts
def test_gradients_equal_those_of_mmdet():
    plugins = [plugin('after_conv2')]
    theirs = train(randomize(build('mmdet', 'ResNet', plugins=plugins)))
    ours = train(build('mmpretrain', plugins=plugins))
    ours.load_state_dict(theirs.state_dict())
    x = make_images(3).double()
    for network in (theirs, ours):
        sum(out.square().mean() for out in network(x)).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name].grad, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize('position', ['after_conv1', 'after_conv2'])
def test_basic_blocks(position):
    network = randomize(
        build('mmpretrain', depth=18, plugins=[plugin(position)])
    )
    block = network.layer2[0].train()
    layer = block.ba2m
    assert layer.in_channels == 16
    x = torch.randn(3, 8, 9, 7).double()
    y = block(x)
    expected = block.norm1(block.conv1(x)).relu()
    if position == 'after_conv1':
        expected = layer(expected)
    expected = F.conv2d(expected, block.conv2.weight, padding=1)
    norm = copy.deepcopy(block.norm2)
    norm._forward_hooks.clear()  # the plugin's
    expected = norm(expected)
    if position == 'after_conv2':
        expected = layer(expected)
    expected = (expected + block.downsample(x)).relu()
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize('host', HOSTS)
def test_deepcopy_shares_no_module(host):
    name = 'ResNet' if host == 'mmdet' else 'BA2MResNet'
    network = train(randomize(build(host, name, plugins=[plugin()])))
    other = copy.deepcopy(network)
    x = make_images(3).double()
    before = network(x)
    torch.testing.assert_close(other(x), before)
    for module in other.modules():
        if isinstance(module, BA2M):
            module.strength.zero_()
    torch.testing.assert_close(network(x), before)
    assert not torch.allclose(other(x)[-1], before[-1], rtol=1e-4)


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('norm_eval', [True, False])
def test_plugins_and_stages_together(host, norm_eval):
    network = randomize(
        build(
            host,
            plugins=[plugin(stages=(False, True, True, True))],
            ba2m_stages=(True, True, False, False),
            ba2m_cfg=dict(reduction=8),
            frozen_stages=1,
            norm_eval=norm_eval,
        )
    )
    network.train()
    found = [n for n, m in network.named_modules() if isinstance(m, BA2M)]
    blocks = [
        f'layer{i}.{j}.ba2m'
        for i, n in ((2, 4), (3, 6), (4, 3))
        for j in range(n)
    ]
    assert sorted(found) == sorted(['layer1.ba2m', 'layer2.ba2m', *blocks])
    sum(
        out.square().mean() for out in network(make_images(3).double())
    ).backward()
    for name, parameter in network.named_parameters():
        trainable = name.startswith(('layer2', 'layer3', 'layer4'))
        assert parameter.requires_grad == trainable, name
        assert (parameter.grad is not None) == trainable, name
    assert not network.layer1.ba2m.training


@pytest.mark.parametrize('frozen_stages', [1, 3])
def test_plugins_freeze_with_their_stage(frozen_stages):
    network = build(
        'mmpretrain', plugins=[plugin()], frozen_stages=frozen_stages
    )
    network.train()
    for i, name in enumerate(network.res_layers):
        layer = getattr(network, name)[0].ba2m
        assert layer.training == (i >= frozen_stages)
        for parameter in layer.parameters():
            assert parameter.requires_grad == (i >= frozen_stages)


def test_with_cp_gives_the_same_outputs_and_gradients():
    results = []
    state = randomize(build('mmpretrain', plugins=[plugin()])).state_dict()
    x = make_images(3).double()
    for with_cp in (False, True):
        network = build('mmpretrain', plugins=[plugin()], with_cp=with_cp)
        network.load_state_dict(state)
        outs = train(network)(x)
        sum(out.square().mean() for out in outs).backward()
        grads = {n: p.grad for n, p in network.named_parameters()}
        results.append((outs, grads))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ('depth', 'position'),
    [(50, 'after_conv4'), (50, 'before_conv1'), (18, 'after_conv3')],
)
def test_wrong_position_is_named(depth, position):
    with pytest.raises(ValueError, match=f'after_conv2.*{position}'):
        build('mmpretrain', depth=depth, plugins=[plugin(position)])


def test_wrong_number_of_stages_is_named():
    with pytest.raises(ValueError, match=r'2 entries.* 4 stages'):
        build('mmpretrain', plugins=[plugin(stages=(True, False))])


def test_two_plugins_need_two_names():
    with pytest.raises(ValueError, match=r'ba2m.* postfix'):
        build('mmpretrain', plugins=[plugin(), plugin('after_conv2')])


def test_config_is_not_changed():
    cfg = dict(
        type='BA2MResNet',
        depth=50,
        base_channels=8,
        stem_channels=8,
        plugins=[
            dict(
                cfg=dict(type='mmba2m.BA2M', reduction=4, postfix='_a'),
                position='after_conv1',
                stages=(True, False, False, False),
            )
        ],
    )
    before = copy.deepcopy(cfg)
    network = models.MODELS.build({**cfg, 'ba2m_cfg': dict(reduction=4)})
    assert cfg == before
    assert hasattr(network.layer1[0], 'ba2m_a')
