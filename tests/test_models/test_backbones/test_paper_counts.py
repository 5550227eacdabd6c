"""Parameters and FLOPs of the paper's networks (arXiv 2103.15099).

Its columns with BA²M count parameters in units of 2²⁰, those without in
10⁶; its FLOPs are multiply-adds of convolutions and linear layers, and two
per value of a batch norm, in 10⁹.
"""

import pytest
import torch
from torch import nn

from mmba2m.models.layers import BA2M

pytest.importorskip('mmpretrain')

from mmba2m.models.backbones import mmpretrain_resnet

CIFAR, IMAGENET = (32, 100), (224, 1000)  # image size, classes


def build(name, depth, reduction, classes, ba2m=True):
    """A backbone and its classifier; on the meta device nothing runs."""
    backbone = getattr(mmpretrain_resnet, name)(
        depth=depth,
        ba2m_stages=(ba2m,) * 4,
        ba2m_cfg=dict(reduction=reduction),
    )
    head = nn.Linear(backbone.feat_dim, classes)
    return nn.ModuleList([backbone, head]).to('meta')


def count(network):
    return sum(p.numel() for p in network.parameters())


def count_flops(network, size):
    """Adds up the layers by the shapes that they give."""
    total = 0

    def add(module, args, out):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = module.weight[0].numel()  # C_in / groups · k²
            total += out.numel() * kernel
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d):
            total += 2 * out.numel()

    for module in network.modules():
        module.register_forward_hook(add)
    network.eval()
    backbone, head = network
    (features,) = backbone(torch.empty(1, 3, size, size, device='meta'))
    head(features.mean((2, 3)))
    return total


NETWORKS = [
    # name, depth, (size, classes), R, printed parameters, FLOPs
    ('BA2MResNet_CIFAR', 50, CIFAR, 2, 70.80, 2.860),
    ('BA2MResNet_CIFAR', 50, CIFAR, 4, 40.65, 1.779),
    ('BA2MResNet_CIFAR', 50, CIFAR, 8, 30.12, 1.466),
    ('BA2MResNet_CIFAR', 50, CIFAR, 16, 25.99, 1.367),
    ('BA2MResNet_CIFAR', 50, CIFAR, 32, 24.21, 1.331),
    ('BA2MResNet_CIFAR', 101, CIFAR, 32, 42.32, 2.547),
    ('BA2MResNet', 18, IMAGENET, 4, 12.28, 1.911),
    ('BA2MResNet', 34, IMAGENET, 4, 21.92, 3.764),
    ('BA2MResNet', 50, IMAGENET, 16, None, 4.305),
    ('BA2MResNet', 101, IMAGENET, 16, 45.87, 8.028),
    ('BA2MResNeXt', 50, IMAGENET, 16, 27.25, 4.453),
    ('BA2MResNeXt', 101, IMAGENET, 16, 45.51, 8.206),
]


@pytest.mark.parametrize(
    ('name', 'depth', 'data', 'reduction', 'printed', 'flops'), NETWORKS
)
def test_counts_of_the_tables(name, depth, data, reduction, printed, flops):
    size, classes = data
    network = build(name, depth, reduction, classes)
    if printed:
        assert count(network) / 2**20 == pytest.approx(printed, abs=0.005)
    assert count_flops(network, size) / 1e9 == pytest.approx(flops, rel=0.005)


def test_network_without_the_module():
    network = build('BA2MResNet_CIFAR', 50, 16, 100, ba2m=False)
    assert count(network) == 23_705_252
    assert count_flops(network, 32) / 1e9 == pytest.approx(1.305, abs=0.005)


# Networks that MMPretrain does not have


def conv_bn(c_in, c_out, kernel, groups=1):
    return c_in * c_out * kernel**2 // groups + 2 * c_out


def count_wide_resnet_28(width, classes=100):
    """Pre-activation: the norm of a convolution is on its input."""
    total, c = 3 * 16 * 9, 16
    for stage in (16 * width, 32 * width, 64 * width):
        for block in range(4):
            total += c * stage * 9 + 2 * c + stage * stage * 9 + 2 * stage
            total += 0 if block else c * stage  # shortcut
            c = stage
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
    ('plain', 'baseline', 'channels', 'reduction', 'printed'),
    [
        (count_wide_resnet_28(8), 23.40, (128, 256, 512), 4, 23.44),
        (count_wide_resnet_28(10), 36.54, (160, 320, 640), 4, 36.59),
        (count_resnext_29(), 34.52, (256, 512, 1024), 8, 34.78),
    ],
    ids=['WRN-28 w=8', 'WRN-28 w=10', 'ResNeXt-29 8x64d'],
)
def test_counts_of_other_networks(
    plain, baseline, channels, reduction, printed
):
    assert plain / 1e6 == pytest.approx(baseline, abs=0.005)
    with torch.device('meta'):
        modules = [BA2M(c, reduction) for c in channels]
    total = plain + sum(count(module) for module in modules)
    assert total / 2**20 == pytest.approx(printed, abs=0.005)
