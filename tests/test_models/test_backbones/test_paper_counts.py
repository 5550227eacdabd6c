"""The networks that MMPretrain does not have, counted by hand.

That all have the paper's counts is in test_paper_tables.py.
"""

import pytest
import torch

from mmba2m.inspect.complexity import count_parameters as count
from mmba2m.models.attentions.ba2m import BA2M

pytest.importorskip('mmpretrain')


def conv_bn(c_in, c_out, kernel, groups=1):
    return c_in * c_out * kernel**2 // groups + 2 * c_out


def count_preresnet(depth, width, expansion=1, classes=100):
    """Pre-activation: the norm of a convolution is on its input."""
    total, c = 3 * 16 * 9, 16
    for inner in (16 * width, 32 * width, 64 * width):
        out = inner * expansion
        for block in range(depth):
            total += 2 * c
            if expansion == 1:
                total += c * out * 9 + 2 * out + out * out * 9
            else:
                total += c * inner + 2 * inner + inner * inner * 9
                total += 2 * inner + inner * out
            total += 0 if block else c * out  # shortcut
            c = out
    return total + 2 * c + (c + 1) * classes


def count_resnext_29(groups=8, base=64, classes=100):
    total, c = conv_bn(3, 64, 3), 64
    for out in (256, 512, 1024):
        inner = groups * base * out // 256
        for block in range(3):
            total += conv_bn(c, inner, 1) + conv_bn(inner, out, 1)
            total += conv_bn(inner, inner, 3, groups)
            total += 0 if block else conv_bn(c, out, 1)  # shortcut
            c = out
    return total + (c + 1) * classes


@pytest.mark.parametrize(
    ('name', 'plain', 'channels', 'reduction'),
    [
        ('preresnet/{}preresnet110', (18, 1, 4), (256,), 4),
        ('wrn/{}wide-resnet28-8', (4, 8), (128, 256, 512), 4),
        ('wrn/{}wide-resnet28-10', (4, 10), (160, 320, 640), 4),
        ('resnext/{}resnext29-8x64d', None, (256, 512, 1024), 8),
    ],
)
def test_counts_by_hand(name, plain, channels, reduction, build_network):
    plain = count_preresnet(*plain) if plain else count_resnext_29()
    name += '_1xb256-300e_cifar100.py'
    assert count(build_network(name.format(''))) == plain
    with torch.device('meta'):
        modules = [BA2M(c, reduction) for c in channels]
    total = plain + sum(count(module) for module in modules)
    assert count(build_network(name.format('ba2m-'))) == total


def test_network_without_the_module(build_network):
    network = build_network('resnet/resnet50_1xb256-300e_cifar100.py')
    assert count(network) == 23_705_252  # docs/parameters.md builds on it


def test_sknet_by_hand(build_network):
    """SKNet-50: a second branch, dilated, and its selection in each block."""
    network = build_network('attention/sk-resnext50-32x4d_8xb32-90e_in1k.py')
    total = 25_028_904  # ResNeXt-50 32×4d
    for width, blocks in ((128, 3), (256, 4), (512, 6), (1024, 3)):
        squeezed = max(width // 16, 32)
        select = 3 * width * squeezed + 2 * squeezed
        total += blocks * (conv_bn(width, width, 3, 32) + select)
    assert count(network) == total
    for name in network.backbone.attention_names:
        conv = network.backbone.get_submodule(name).conv[0]
        assert conv.dilation == conv.padding == (2, 2)
