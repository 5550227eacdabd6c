"""What blocks other than a ResNet's compute with a module in them."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from families import NETWORKS, build
from networks import Gate, Reader, ScaledConv, make_images, train

from mmba2m import HOSTS
from mmba2m.models.backbones.stages import find_blocks


def linear(layer, x):
    """A linear layer, or 1×1 convolution, on a map (N, C, H, W)."""
    weight = layer.weight.flatten(1)[:, :, None, None]
    return F.conv2d(x, weight, layer.bias)


def convnext(block, x, use):
    y = use(1, block.norm(block.depthwise_conv(x)))
    y = use(2, block.act(linear(block.pointwise_conv1, y)))
    y = use(3, linear(block.pointwise_conv2, y))
    return x + block.gamma.view(-1, 1, 1) * y


def swin(block, x, use):
    size = x.shape[2:]

    def on_tokens(function, maps):
        tokens = function(maps.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, size)

    y = on_tokens(block.norm1, x)
    x = x + use(1, on_tokens(lambda t: block.attn(t, size), y))
    y = on_tokens(block.norm2, x)
    y = use(2, F.gelu(linear(block.ffn.layers[0][0], y)))
    return x + use(3, linear(block.ffn.layers[1], y))


def mbconv(block, x, use):
    y = use(1, block.expand_conv(x)) if block.with_expand_conv else x
    y = use(2, block.depthwise_conv(y))
    if not use.instead_of_se:
        y = block.se(y)
    y = use(3, block.linear_conv(y))
    return x + y if block.with_res_shortcut else y


def preact(block, x, use):
    y = F.relu(block.norm(x))
    shortcut = x if block.shortcut is None else block.shortcut(y)
    y = use(1, block.convs[0].conv(y))
    for i in range(1, len(block.convs)):
        conv = block.convs[i]
        y = use(i + 1, conv.conv(F.relu(conv.bn(y))))
    return shortcut + y


WIDTHS = {
    convnext: lambda block: block.depthwise_conv.in_channels,
    swin: lambda block: block.norm1.normalized_shape[0],
    mbconv: lambda block: (
        getattr(block, 'expand_conv', block.depthwise_conv).conv.in_channels
    ),
    preact: lambda block: block.norm.num_features,
}


class Use:
    """Runs a module where its entry says."""

    def __init__(self, module, position, last):
        self.module = module
        self.instead_of_se = position == 'se'
        self.at = dict(residual=last, se=2).get(position)
        self.at = self.at or int(position.removeprefix('after_conv'))
        self.maps = []

    def __call__(self, number, x):
        self.maps.append(x)
        if number != self.at:
            return x
        reads_all = isinstance(self.module, Reader)
        return self.module(self.maps if reads_all else x)


BASES = [
    ('mmdet.SwinTransformer', swin, dict(drop_path_rate=0)),
    ('mmdet.EfficientNet', mbconv, dict(arch='b0')),
    ('mmpretrain.SwinTransformer', swin, dict(drop_path_rate=0)),
    ('mmpretrain.ConvNeXt', convnext, dict(layer_scale_init_value=0.7)),
    (
        'mmpretrain.ConvNeXt',
        convnext,
        dict(linear_pw_conv=False, layer_scale_init_value=0.7),
    ),
    ('mmpretrain.EfficientNet', mbconv, dict(arch='b0')),
    ('mmpretrain.PreResNet_CIFAR', preact, {}),
    ('mmpretrain.PreResNet_CIFAR', preact, dict(expansion=4)),
]
CASES = [
    (base, literal, cfg, cls, position)
    for base, literal, cfg in BASES
    for cls, position in [
        (Reader, 'residual'),
        (Reader, 'after_conv2'),
        (Gate, 'after_conv2'),
        (Gate, 'residual'),
        (Reader, 'se'),
    ]
    if base.split('.')[0] in HOSTS and (literal is mbconv or position != 'se')
]


@pytest.mark.parametrize(('base', 'literal', 'cfg', 'cls', 'position'), CASES)
def test_block_is_the_composition_of_its_parts(
    base, literal, cfg, cls, position
):
    cfg = {**dict(NETWORKS)[base], **cfg}
    entry = dict(type=cls, position=position)
    network = train(build(base, entry, **cfg).double())
    plain = train(build(base, **cfg).double())
    plain.load_state_dict(network.state_dict(), strict=False)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(network)))
    stages = zip(network._stage_list[:2], copied._stage_list, strict=False)
    for stage, other in stages:
        ours = find_blocks(network, stage)
        again = find_blocks(copied, other)
        for name, block in ours.items():
            theirs = plain.get_submodule(name)
            width = WIDTHS[literal](theirs)
            x = torch.randn(3, width, 6, 4).double()
            last = 2 if len(getattr(theirs, 'convs', '123')) == 2 else 3
            use = Use(getattr(block, cls.__name__.lower()), position, last)
            one, two = (x.clone().requires_grad_() for _ in range(2))
            if literal is swin:
                tokens = one.flatten(2).transpose(1, 2)
                y = block(tokens, (6, 4)).transpose(1, 2).unflatten(2, (6, 4))
            else:
                y = block(one)
                torch.testing.assert_close(again[name](x), y)
            expected = literal(theirs, two, use)
            torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
            weights = torch.randn_like(y)
            (y * weights).sum().backward()
            (expected * weights).sum().backward()
            torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.skipif('mmpretrain' not in HOSTS, reason='its backbone')
def test_a_convolution_is_replaced_in_a_preactivation_block():
    cfg = dict(depths=(1, 1), out_indices=(0, 1))
    entry = dict(type=ScaledConv, position='conv1')
    network = build('mmpretrain.PreResNet_CIFAR', entry, **cfg)
    plain = build('mmpretrain.PreResNet_CIFAR', **cfg)
    assert network.attention_names == [
        f'layer{i}.0.convs.0.conv' for i in (1, 2)
    ]
    for i in (1, 2):
        ours, theirs = (
            getattr(n, f'layer{i}')[0].convs for n in (network, plain)
        )
        assert type(ours[0].conv) is ScaledConv
        assert ours[0].conv.stride == theirs[0].conv.stride
        assert ours[1].conv.__class__ is theirs[1].conv.__class__
        theirs[0].conv = ours[0].conv
    plain.load_state_dict(network.state_dict())
    x = make_images(2, dtype=torch.float32)
    for out, expected in zip(
        train(network, False)(x), train(plain, False)(x), strict=True
    ):
        torch.testing.assert_close(out, expected)
