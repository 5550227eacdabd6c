"""Attention modules between the stages of every family of backbones."""

import copy
import pickle

import pytest
import torch
from families import NETWORKS, build, name_network
from networks import make_images, train
from torch import nn

from mmba2m import HOSTS
from mmba2m.models.backbones import AttentionBackbone
from mmba2m.models.backbones.slots import AttentionMixin
from mmba2m.models.backbones.stages import FAMILIES

pytestmark = pytest.mark.filterwarnings('ignore')

BA2M = dict(type='BA2M', reduction=4)
each_network = pytest.mark.parametrize(
    ('base', 'cfg'), NETWORKS, ids=name_network
)
needs_mmdet = pytest.mark.skipif('mmdet' not in HOSTS, reason='its own')
needs_mmpretrain = pytest.mark.skipif(
    'mmpretrain' not in HOSTS, reason='its own'
)


class Place(nn.Module):
    """Leaves one position of each map, and keeps the maps."""

    positions = ('after_stage',)

    def __init__(self, in_channels):
        super().__init__()
        self.in_channels = in_channels
        self.scale = nn.Parameter(torch.ones(()))
        self.shape = None

    def forward(self, x):
        self.shape = tuple(x.shape)
        mask = torch.zeros_like(x)
        mask[..., x.size(2) // 2, -1] = 1
        return x * mask * self.scale


def make(n=3):
    return make_images(n, size=64, dtype=torch.float32)


@pytest.mark.skipif(len(HOSTS) < 2, reason='some are of the other host')
def test_every_family_has_a_network():
    classes = {
        cls.__name__
        for base, cfg in NETWORKS
        for cls in type(build(base, **cfg)).__mro__
    }
    assert {*FAMILIES} <= classes


@each_network
def test_it_is_the_hosts_network_and_the_modules(base, cfg):
    stock = build(base, **cfg)
    network = build(base, BA2M, **cfg)
    assert len(network.attention_names) >= 2
    keys = [k for k in network.state_dict() if '.ba2m.' not in k]
    assert keys == list(stock.state_dict())
    missing, unexpected = network.load_state_dict(
        stock.state_dict(), strict=False
    )
    assert not unexpected
    assert all('.ba2m.' in key for key in missing)

    x = make()
    # before a training step, and later without strength
    for network_, training in ((network, False), (network, True)):
        modules = [network.get_submodule(n) for n in network.attention_names]
        for module in modules:
            module.strength.fill_(float(not training))
        outs = []
        for net in (stock, network_):
            torch.manual_seed(0)  # stochastic depth
            outs.append(train(net, training)(x))
        for expected, out in zip(*outs, strict=True):
            assert torch.equal(out, expected)

    for module in modules:
        module.strength.fill_(1)
    outs = train(network)(x)
    sum(out.square().mean() for out in outs).backward()
    for name in network.attention_names:
        module = network.get_submodule(name)
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.isfinite().all(), (name, key)
                assert 'weight' not in key or parameter.grad.any(), (name, key)
    train(network, False)
    before = network(x)
    assert not torch.equal(before[-1], train(stock, False)(x)[-1])
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        assert type(other) is type(network)
        for p in other.parameters():
            p.data.mul_(1.1)
        assert not torch.equal(other(x)[-1], before[-1])
        assert torch.equal(network(x)[-1], before[-1])


@each_network
def test_each_map_is_handed_on_as_it_lies(base, cfg):
    """Tokens, and maps with the channels last, become maps and back."""
    cfg = dict(cfg)
    last = max(s.index for s in build(base, BA2M, **cfg)._stage_list)
    if 'TIMM' not in base:
        cfg['out_indices'] = (last,)
    if base.endswith(('ConvNeXt', 'HorNet')):
        cfg['gap_before_final_norm'] = False
    network = build(base, dict(type=Place), **cfg)
    names = network.attention_names
    for name in names[:-1]:  # the last one is looked at
        network.get_submodule(name).forward = lambda x: x
    out = train(network, False)(make())[-1]
    module = network.get_submodule(names[-1])
    assert module.shape[1] == module.in_channels
    if 'TIMM' in base and not cfg.get('features_only'):
        return  # with layers behind
    assert tuple(out.shape) == module.shape
    height, width = out.shape[2:]
    pixels = out.flatten(2).transpose(1, 2)  # (N, H W, C)
    same = (pixels == pixels[:, :1]).all(2)
    place = height // 2 * width + width - 1
    assert not same[:, place].any() or place == 0
    assert same.sum(1).tolist() == [height * width - 1] * 3


@each_network
def test_unused_maps_and_frozen_stages(base, cfg):
    if 'TIMM' in base:
        pytest.skip('it has neither option')
    first = build(base, BA2M, **cfg)._stage_list[0]
    cfg = dict(cfg, out_indices=[first.index], frozen_stages=1)
    if base == 'mmpretrain.HorNet':
        cfg['frozen_stages'] = -1  # else it asks for a norm too many
    if base.endswith(('ConvNeXt', 'HorNet')):
        cfg['gap_before_final_norm'] = False
    network = build(base, BA2M, **cfg)
    train(network)(make())[0].square().mean().backward()
    for name in network.attention_names:
        module = network.get_submodule(name)
        assert module.training  # also behind a frozen stage
        for parameter in module.parameters():
            used = name == f'{first.name}.ba2m'
            assert parameter.requires_grad == used
            assert (parameter.grad is not None) == used


@needs_mmpretrain
@pytest.mark.parametrize(
    ('base', 'last'),
    [
        ('mmpretrain.SEResNet', 'layer2.3.conv1.weight'),
        ('mmpretrain.ConvNeXt', 'stages.1.1.norm.weight'),
        ('mmpretrain.SwinTransformer', 'stages.1.blocks.1.norm1.weight'),
    ],
)
def test_layer_wise_decay_takes_the_last_layer_of_the_stage(base, last):
    network = build(base, BA2M, **dict(NETWORKS)[base])
    stage = '.'.join(last.split('.')[: 1 if 'layer' in last else 2])
    key = f'backbone.{stage}.ba2m.channel.1.weight'
    depth = network.get_layer_depth
    assert depth(key, 'backbone.') == depth(f'backbone.{last}', 'backbone.')
    for key, _ in network.named_parameters():
        assert depth(key)[0] < depth(key)[1]


# What is refused


@needs_mmpretrain
@pytest.mark.parametrize(
    ('base', 'cfg', 'message'),
    [
        ('mmpretrain.VisionTransformer', {}, 'stages of .*VisionTransformer'),
        ('mmpretrain.Nothing', {}, "no 'mmpretrain.Nothing'.*mmpretrain"),
        (
            'mmpretrain.TIMMBackbone',
            dict(model_name='vit_tiny_patch16_224'),
            'no stages',
        ),
        (
            'mmpretrain.TIMMBackbone',
            dict(model_name='hrnet_w18_small'),
            'no stages',
        ),
    ],
)
def test_what_has_no_stages_is_named(base, cfg, message):
    with pytest.raises(ValueError, match=message):
        build(base, BA2M, **cfg)


@needs_mmdet
@pytest.mark.parametrize(
    ('base', 'attention', 'cfg', 'message'),
    [
        ('DetectoRS_ResNet', BA2M, dict(rfp_inplanes=8), 'rfp_inplanes'),
        ('Res2Net', dict(type='SE'), dict(scales=4), "one of .'after_stage'."),
        ('ResNeSt', dict(type='SE'), {}, "one of .'after_stage'."),
    ],
)
def test_what_does_not_fit_is_named(base, attention, cfg, message):
    with pytest.raises(ValueError, match=message):
        build(f'mmdet.{base}', attention, depth=50, **cfg)


@pytest.mark.skipif(len(HOSTS) < 2, reason='one host has one of each name')
def test_without_a_scope_a_name_in_both_hosts_is_refused():
    with pytest.raises(ValueError, match=r'mmdet.RegNet or mmpretrain'):
        AttentionBackbone('RegNet', arch='regnetx_400mf', attention=BA2M)
    network = AttentionBackbone('ConvNeXt', arch='atto', attention=BA2M)
    assert isinstance(network, AttentionMixin)
    # those that have them already are what they are
    assert type(AttentionBackbone(type(network))) is type(network)


@pytest.mark.parametrize('left', [(), ('layer2',), ('layer1', 'layer2')])
def test_a_module_that_is_never_called_ends_the_first_step(left):
    class Host(nn.Module):
        num_stages, feat_dim, res_layers = 2, 8, ['layer1', 'layer2']

        def __init__(self):
            super().__init__()
            self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3))
            self.layer2 = nn.Sequential(nn.Conv2d(4, 8, 3))

        def forward(self, x):
            for name in self.res_layers:
                layer = getattr(self, name)
                x = layer[0](x) if name in left else layer(x)
            return (x,)

    network = type('PreResNet_CIFAR', (AttentionMixin, Host), {})(
        attention=dict(BA2M, reduction=2)
    )
    x = make()
    train(network, False)(x)
    if left:
        names = ', '.join(f'{name}.ba2m' for name in left)
        with pytest.raises(RuntimeError, match=f'^{names}: never called'):
            train(network)(x)
    else:
        train(network)(x)
    for module in network.modules():
        assert not module._forward_hooks  # nothing stays
