"""Parameters and FLOPs of the paper's networks (arXiv 2103.15099).

Its columns with BA²M count parameters in units of 2²⁰, those without in
10⁶; its FLOPs are multiply-adds of convolutions and linear layers, and two
per value of a batch norm, in 10⁹.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.checkpoints import complexity
from mmba2m.inspect.complexity import count_parameters as count

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS

from mmba2m.models.backbones import mmpretrain_resnet

CIFAR, IMAGENET = (32, 100), (224, 1000)  # image size, classes


@pytest.fixture(autouse=True)
def _leave_weights_uninitialised(monkeypatch):
    """Counting needs no values, and drawing them takes most of the time."""
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)


def build(name, depth, reduction, classes, ba2m=True):
    """A backbone and its classifier; on the meta device nothing runs."""
    backbone = getattr(mmpretrain_resnet, name)(
        depth=depth,
        ba2m_stages=(ba2m,) * 4,
        ba2m_cfg=dict(reduction=reduction),
    )
    head = nn.Linear(backbone.feat_dim, classes)
    return nn.ModuleList([backbone, head]).to('meta')


def count_flops(network, size):
    network.eval()
    backbone, head = network

    def run():
        (maps,) = backbone(torch.empty(1, 3, size, size, device='meta'))
        head(maps.mean((2, 3)))

    return complexity.count_flops(network, run)


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


# The configs of CIFAR-100 (Tables I and X)


def build_config(name):
    configs = Path(__file__).parents[3] / 'configs'
    cfg = Config.fromfile(configs / f'{name}_1xb256-300e_cifar100.py')
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('name', 'printed', 'unit'),
    [
        ('resnet/resnet50', 23.71, 10**6),
        ('resnet/resnet101', 42.70, 10**6),
        ('preresnet/preresnet110', 1.73, 10**6),
        ('wrn/wide-resnet28-8', 23.40, 10**6),
        ('wrn/wide-resnet28-10', 36.54, 10**6),
        ('resnext/resnext29-8x64d', 34.52, 10**6),
        # Table X has one unit for all of its rows
        ('densenet/densenet100', 0.76, 2**20),
        ('mobilenet_v2/mobilenet-v2', 2.26, 2**20),
        ('resnet/ba2m-resnet50', 24.21, 2**20),
        ('resnet/ba2m-resnet101', 42.32, 2**20),
        ('preresnet/ba2m-preresnet110', 1.86, 2**20),
        ('wrn/ba2m-wide-resnet28-8', 23.44, 2**20),
        ('wrn/ba2m-wide-resnet28-10', 36.59, 2**20),
        ('resnext/ba2m-resnext29-8x64d', 34.78, 2**20),
        ('densenet/ba2m-densenet100', 0.78, 2**20),
        ('mobilenet_v2/ba2m-mobilenet-v2', 2.31, 2**20),
    ],
)
def test_configs_have_the_printed_counts(name, printed, unit):
    assert count(build_config(name)) / unit == pytest.approx(
        printed, abs=0.005
    )


def test_shufflenet_has_the_printed_count():
    network = build_config('shufflenet_v2/shufflenet-v2-1x')
    assert count(network) / 2**20 == pytest.approx(1.3, abs=0.05)


# The networks that MMPretrain does not have, by hand


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
def test_counts_by_hand(name, plain, channels, reduction):
    plain = count_preresnet(*plain) if plain else count_resnext_29()
    assert count(build_config(name.format(''))) == plain
    with torch.device('meta'):
        modules = [BA2M(c, reduction) for c in channels]
    total = plain + sum(count(module) for module in modules)
    assert count(build_config(name.format('ba2m-'))) == total
