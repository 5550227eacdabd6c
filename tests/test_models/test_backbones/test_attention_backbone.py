"""Attention modules between the stages of every family of backbones."""

import copy
import inspect
import pickle

import pytest
import torch
from families import NETWORKS, build
from networks import make_images, train
from torch import nn

from mmba2m import HOSTS
from mmba2m.models.backbones import AttentionBackbone
from mmba2m.models.backbones.slots import AttentionMixin
from mmba2m.models.backbones.stages import FAMILIES
from mmba2m.registry import MODELS

pytestmark = pytest.mark.filterwarnings('ignore')

BA2M = dict(type='BA2M', reduction=4)
FAST = ('mmdet.RegNet', 'mmdet.SwinTransformer', 'mmpretrain.ConvNeXt')
each_network = pytest.mark.parametrize(
    ('base', 'cfg'),
    [
        pytest.param(
            base,
            cfg,
            id=f'{base}-{cfg.get("model_name", "")}',
            marks=[] if base in FAST else pytest.mark.slow,
        )
        for base, cfg in NETWORKS
    ],
)
both_hosts = pytest.mark.skipif(len(HOSTS) < 2, reason='of both hosts')


class Place(nn.Module):
    """Leaves one position of each map."""

    positions = ('after_stage',)

    def __init__(self, in_channels):
        super().__init__()
        self.in_channels = in_channels

    def forward(self, x):
        self.shape = tuple(x.shape)
        mask = torch.zeros_like(x)
        mask[..., x.size(2) // 2, -1] = 1
        return x * mask


def make(n=3):
    return make_images(n, size=64, dtype=torch.float32)


def modules_of(network):
    return [network.get_submodule(name) for name in network.attention_names]


@both_hosts
def test_every_family_has_a_network():
    networks = [build(base, **cfg) for base, cfg in NETWORKS]
    classes = {cls.__name__ for n in networks for cls in type(n).__mro__}
    assert {*FAMILIES} <= classes


@each_network
def test_it_is_the_hosts_network_and_the_modules(base, cfg):
    stock = build(base, **cfg)
    network = build(base, BA2M, **cfg)
    assert len(network.attention_names) >= 2
    keys = [k for k in network.state_dict() if '.ba2m.' not in k]
    assert keys == list(stock.state_dict())
    missing, unexpected = network.load_state_dict(stock.state_dict(), False)
    assert not unexpected
    assert all('.ba2m.' in key for key in missing)

    x = make()
    # before a training step, and in one without strength
    for training in (False, True):
        for module in modules_of(network):
            module.strength.fill_(float(not training))
        outs = []
        for net in (stock, network):
            torch.manual_seed(0)  # stochastic depth
            outs.append(train(net, training)(x))
        for expected, out in zip(*outs, strict=True):
            assert torch.equal(out, expected)

    for module in modules_of(network):
        module.strength.fill_(1)
    sum(out.square().mean() for out in train(network)(x)).backward()
    for module in modules_of(network):
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.isfinite().all(), key
                assert 'weight' not in key or parameter.grad.any(), key
    before = train(network, False)(x)[-1]
    assert not torch.equal(before, train(stock, False)(x)[-1])
    pickled = pickle.loads(pickle.dumps(network))
    for other in (copy.deepcopy(network), pickled):
        assert type(other) is type(network)
        for parameter in other.parameters():
            parameter.data.mul_(1.1)
        assert not torch.equal(other(x)[-1], before)
        assert torch.equal(network(x)[-1], before)


@each_network
def test_each_map_is_handed_on_as_it_lies(base, cfg):
    """Tokens, and maps with the channels last, become maps and back."""
    last = build(base, BA2M, **cfg)._stage_list[-1].index
    cfg = cfg if 'TIMM' in base else dict(cfg, out_indices=(last,))
    if base.endswith(('ConvNeXt', 'HorNet')):
        cfg['gap_before_final_norm'] = False
    network = build(base, dict(type=Place), **cfg)
    *others, module = modules_of(network)
    for other in others:  # the last one is looked at
        other.forward = lambda x: x
    out = train(network, False)(make())[-1]
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
    if base.endswith('HorNet'):  # frozen, it asks for a norm too many
        del cfg['frozen_stages']
    network = build(base, BA2M, **cfg)
    train(network)(make())[0].square().mean().backward()
    for name, module in zip(
        network.attention_names, modules_of(network), strict=True
    ):
        assert module.training  # also behind a frozen stage
        for parameter in module.parameters():
            used = name == f'{first.name}.ba2m'
            assert parameter.requires_grad == used
            assert (parameter.grad is not None) == used


@pytest.mark.skipif('mmpretrain' not in HOSTS, reason='it asks for them')
@pytest.mark.parametrize(
    ('base', 'stage', 'last'),
    [
        ('SEResNet', 'layer2', '3.conv1.weight'),
        ('ConvNeXt', 'stages.1', '1.norm.weight'),
        ('SwinTransformer', 'stages.1', 'blocks.1.norm1.weight'),
    ],
)
def test_layer_wise_decay_takes_the_last_layer_of_the_stage(base, stage, last):
    base = f'mmpretrain.{base}'
    network = build(base, BA2M, **dict(NETWORKS)[base])
    key, last = f'net.{stage}.ba2m.channel.1.weight', f'net.{stage}.{last}'
    assert network.get_layer_depth(key, 'net.') == network.get_layer_depth(
        last, 'net.'
    )


@pytest.mark.slow
@pytest.mark.parametrize('base', ['mmdet.SwinTransformer', 'mmdet.CSPNeXt'])
def test_exports(base, tmp_path):
    pytest.importorskip(base.split('.')[0])
    onnxruntime = pytest.importorskip('onnxruntime')
    network = train(build(base, BA2M, **dict(NETWORKS)[base]), False)
    for module in modules_of(network):
        module.running_normalizer.fill_(1.7)
    x, path = make(), str(tmp_path / 'network.onnx')
    export = torch.onnx.export
    legacy = 'dynamo' in inspect.signature(export).parameters
    options = dict(dynamo=False) if legacy else {}
    export(network, x, path, opset_version=17, input_names=['x'], **options)
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider']
    )
    for out, expected in zip(
        session.run(None, {'x': x.numpy()}), network(x), strict=True
    ):
        torch.testing.assert_close(
            torch.from_numpy(out), expected, rtol=1e-3, atol=1e-4
        )


# What is refused

RESIDUAL = dict(type='SE', position='residual')


@both_hosts
@pytest.mark.parametrize(
    ('base', 'attention', 'cfg', 'message'),
    [
        ('mmpretrain.VisionTransformer', BA2M, {}, 'VisionTransformer end'),
        ('mmpretrain.No', BA2M, {}, r"no 'mmpretrain.No'.*mmpretrain"),
        *(
            ('mmpretrain.TIMMBackbone', BA2M, dict(model_name=n), 'no stages')
            for n in ('vit_tiny_patch16_224', 'hrnet_w18_small')
        ),
        (
            'mmdet.DetectoRS_ResNet',
            BA2M,
            dict(depth=50, rfp_inplanes=8),
            'rfp_inplanes',
        ),
        *(
            (f'mmdet.{n}', RESIDUAL, dict(depth=50), "'after_stage'.")
            for n in ('Res2Net', 'ResNeSt')
        ),
    ],
)
def test_what_does_not_fit_is_named(base, attention, cfg, message):
    with pytest.raises(ValueError, match=message):
        build(base, attention, **cfg)


@both_hosts
def test_without_a_place_in_blocks_it_goes_behind_the_stages():
    attention = dict(type='SE', stages=(False, True, False, True))
    with pytest.warns(match='SE in AttentionRes2Net goes behind the stages'):
        network = build('mmdet.Res2Net', attention, depth=50)
    assert network.attention_names == ['layer2.se_layer', 'layer4.se_layer']


@both_hosts
def test_without_a_scope_a_name_in_both_hosts_is_refused():
    with pytest.raises(ValueError, match=r'mmdet.RegNet or mmpretrain.RegNet'):
        AttentionBackbone('RegNet', arch='regnetx_400mf', attention=BA2M)
    network = AttentionBackbone('ConvNeXt', arch='atto', attention=BA2M)
    assert isinstance(network, AttentionMixin)
    # those that have them already are what they are
    assert type(AttentionBackbone(type(network), None)) is type(network)


def test_without_attention_it_is_refused():
    cfg = dict(type='mmba2m.AttentionBackbone', base='mmdet.RegNet')
    with pytest.raises(TypeError, match=r"AttentionBackbone.*'attention'"):
        MODELS.build(cfg)


@pytest.mark.parametrize('left', [(), ('layer2',), ('layer1', 'layer2')])
def test_a_module_that_is_never_called_ends_the_first_step(left):
    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 3))
            self.layer2 = nn.Sequential(nn.Conv2d(4, 8, 3))

        def _stages(self):
            return [(0, 'layer1', 4), (1, 'layer2', 8)]

        def forward(self, x):
            for name in ('layer1', 'layer2'):
                layer = getattr(self, name)
                x = layer[0](x) if name in left else layer(x)
            return (x,)

    bases = (AttentionMixin, Host)
    cls = type('Own', bases, dict(_stages=Host._stages))
    network = cls(attention=dict(BA2M, reduction=2))
    x = make()
    train(network, False)(x)
    if left:
        names = ', '.join(f'{name}.ba2m' for name in left)
        with pytest.raises(RuntimeError, match=f'^{names}: never called'):
            train(network)(x)
    train(network)(x)  # the first step only
    for module in network.modules():
        assert not module._forward_hooks  # nothing stays
