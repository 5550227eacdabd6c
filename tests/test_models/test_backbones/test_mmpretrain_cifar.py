"""The networks for small images, with BA²M and without.

What all backbones have in common is in ``test_attention_backbone.py``.
"""

import pytest
import torch
import torch.nn.functional as F
from networks import make_images, randomize, train
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS

from mmba2m.models.backbones.mmpretrain_preresnet import PreActBlock

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

# arguments, where the stages end and their widths, and the side of the last
# map of a 32×32 image
NETWORKS = {
    'PreResNet_CIFAR': (
        dict(depths=(2, 1, 1), base_channels=4, expansion=4),
        {'layer1': 16, 'layer2': 32, 'layer3': 64},
        8,
    ),
    'ResNeXt_CIFAR': (
        dict(
            depth=29,
            base_channels=8,
            groups=2,
            width_per_group=4,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
        ),
        {'layer1': 32, 'layer2': 64, 'layer3': 128},
        8,
    ),
    'DenseNet_CIFAR': (
        dict(arch=dict(growth_rate=4, depths=[2, 3, 2], init_channels=8)),
        # (8 + 2 · 4) / 2, (8 + 3 · 4) / 2, 10 + 2 · 4
        {'transitions.0': 8, 'transitions.1': 10, 'transitions.2': 18},
        8,
    ),
    'ShuffleNetV2_CIFAR': (
        dict(widen_factor=0.5),
        {'layers.0': 48, 'layers.1': 96, 'layers.2': 192},
        4,
    ),
    'MobileNetV2_CIFAR': (
        dict(widen_factor=0.25),
        # a quarter of 16 24 32 64 96 160 320, to multiples of 8
        {
            f'layer{i}': width
            for i, width in enumerate((8, 8, 8, 16, 24, 40, 80), 1)
        },
        4,
    ),
    'EfficientNet_CIFAR': (
        dict(arch='b0'),
        {
            f'layers.{i}': width
            for i, width in enumerate((16, 24, 40, 112, 320), 1)
        },
        2,
    ),
}


def build(name, **kwargs):
    options = {**NETWORKS[name.removeprefix('BA2M')][0], **kwargs}
    if name.startswith('BA2M'):
        options.setdefault('ba2m_cfg', dict(reduction=4))
    return MODELS.build(dict(type=name, **options))


def find_modules(network):
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BA2M)
    }


@pytest.mark.parametrize('name', NETWORKS)
def test_stages_get_modules_which_weigh_where_they_are_on(name):
    _, widths, side = NETWORKS[name]
    plain = randomize(build(name)).double()
    network = build(f'BA2M{name}').double()
    modules = find_modules(network)
    assert {key: module.in_channels for key, module in modules.items()} == {
        f'{key}.ba2m': width for key, width in widths.items()
    }
    keys = [key for key in network.state_dict() if '.ba2m.' not in key]
    assert keys == list(plain.state_dict())
    network.load_state_dict(plain.state_dict(), strict=False)
    seen = []
    for module in modules.values():
        module.register_forward_hook(
            lambda module, args, out: seen.append((module, args[0], out))
        )
    x = make_images(3)
    (expected,) = train(plain)(x)
    assert expected.shape[-2:] == (side, side)
    assert not torch.allclose(train(network)(x)[0], expected, rtol=1e-3)
    assert len(seen) == len(widths)
    for module, maps, out in seen:
        w = module.weigh(module.sample_attention(maps))
        torch.testing.assert_close(out, maps * w.view(-1, 1, 1, 1))
    for module in modules.values():
        module.strength.zero_()
    assert torch.equal(network(x)[0], expected)

    enabled = [i % 2 == 1 for i in range(len(widths))]
    network = build(f'BA2M{name}', ba2m_stages=enabled)
    assert list(find_modules(network)) == [
        f'{key}.ba2m' for key, on in zip(widths, enabled, strict=True) if on
    ]
    with pytest.raises(ValueError, match=f'{next(iter(widths))}: '):
        build(f'BA2M{name}', ba2m_cfg=dict(reduction=1000))


@pytest.mark.parametrize('expansion', [1, 4])
@pytest.mark.parametrize(('in_channels', 'stride'), [(8, 2), (None, 1)])
def test_block_activates_before_it_convolves(expansion, in_channels, stride):
    in_channels = in_channels or 4 * expansion
    block = PreActBlock(in_channels, 4, expansion, stride, dict(type='BN'))
    randomize(block).double().eval()
    x = torch.randn(2, in_channels, 8, 8).double()
    before = x.clone()
    y = block(x)
    assert torch.equal(x, before)

    first = F.batch_norm(
        x,
        block.norm.running_mean,
        block.norm.running_var,
        block.norm.weight,
        block.norm.bias,
    ).relu()
    expected = first
    sizes = [3, 3] if expansion == 1 else [1, 3, 1]
    for layer, size in zip(block.convs, sizes, strict=True):
        assert layer.conv.kernel_size == (size, size)
        if layer.norm is not None:
            expected = layer.norm(expected).relu()
        expected = layer.conv(expected)
    shortcut = x
    if in_channels != 4 * expansion:
        weight = block.shortcut.weight
        shortcut = F.conv2d(first, weight, stride=stride)
    torch.testing.assert_close(y, shortcut + expected)
    assert y.shape == (2, 4 * expansion, 8 // stride, 8 // stride)


def test_preresnet_ends_in_its_norm():
    network = randomize(build('BA2MPreResNet_CIFAR', out_indices=(1, 2)))
    train(network, False)
    x = make_images(2, dtype=torch.float32)
    first, last = network(x)
    maps = network.layer2(network.layer1(network.conv1(x)))
    torch.testing.assert_close(first, maps)
    maps = network.norm(network.layer3(maps)).relu()
    torch.testing.assert_close(last, maps)


def test_mobilenet_has_biases_that_start_at_zero():
    network = build('MobileNetV2_CIFAR')
    network.init_weights()
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 52
    assert all((conv.bias == 0).all() for conv in convs)
