"""What the tests of backbones share: networks, and modules for them."""

from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmba2m import HOSTS
from mmba2m.models.attentions import FEATURE_MAP_POSITIONS

each_host = pytest.mark.parametrize('host', HOSTS)
each_depth = pytest.mark.parametrize('depth', [18, 50])

CONVS = {18: ['conv1', 'conv2'], 50: ['conv1', 'conv2', 'conv3']}


class Gate(nn.Module):
    """As others write theirs: it knows nothing of positions."""

    def __init__(self, in_channels, bias=True):
        super().__init__()
        self.fc = nn.Conv2d(in_channels, in_channels, 1, bias=bias)

    def forward(self, x):
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class Shift(nn.Module):
    """Does not commute with others."""

    positions = ('after_conv1', 'residual')

    def __init__(self, in_channels):
        super().__init__()

    def forward(self, x):
        return x + 1


class Reader(nn.Module):
    """Reads several convolutions of a block."""

    positions = ('residual', 'after_conv2')

    def __init__(self, widths):
        super().__init__()
        self.fcs = nn.ModuleList(nn.Conv2d(c, widths[-1], 1) for c in widths)

    @classmethod
    def from_convs(cls, convs, **cfg):
        return cls([conv.weight.size(0) for conv in convs], **cfg)

    def forward(self, features):
        logits = [
            fc(features[i].mean((2, 3), keepdim=True))
            for i, fc in enumerate(self.fcs)
        ]
        return features[-1] * sum(logits).sigmoid()


class ScaledConv(nn.Conv2d):
    """Takes the place of a convolution."""

    positions = ('conv2', 'conv1', 'conv3')

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.rand(self.out_channels, 1, 1))

    def forward(self, x):
        return super().forward(x) * self.scale


class Sized(nn.Module):
    """Works on one size of its map."""

    positions = FEATURE_MAP_POSITIONS

    def __init__(self, in_channels, map_size):
        super().__init__()
        self.map_size = map_size

    def forward(self, x):
        assert tuple(x.shape[-2:]) == self.map_size
        return x


class SizedConv(ScaledConv):
    def __init__(self, *args, map_size, **kwargs):
        super().__init__(*args, **kwargs)
        self.map_size = map_size

    def forward(self, x):
        out = super().forward(x)
        assert tuple(out.shape[-2:]) == self.map_size
        return out


def build(host, attention=None, name='AttentionResNet', **kwargs):
    """A narrow network of two stages."""
    registry = import_module(f'{host}.registry').MODELS
    cfg = dict(type=name, depth=18, base_channels=8, stem_channels=8)
    cfg.update(num_stages=2, strides=(1, 2), dilations=(1, 1))
    cfg.update(out_indices=(0, 1), norm_eval=False)
    cfg.update(kwargs)
    if 'ResNeXt' in name:
        width = dict(mmdet='base_width', mmpretrain='width_per_group')[host]
        cfg.update({'groups': 4, width: 8, 'depth': 50})
    if attention is not None:
        cfg.update(attention=attention)
    return registry.build(cfg).double()


def build_pair(host, attention, **kwargs):
    """A network with attention, and the host's with the same weights."""
    network = randomize(build(host, attention, **kwargs))
    plain = build(host, name='ResNet', **kwargs)
    plain.load_state_dict(network.state_dict(), strict=False)
    return network, plain


def randomize(network):
    """Also the last norm of each block, which starts at 0."""
    last_norms = ('bn2.weight', 'bn3.weight')
    for name, tensor in network.state_dict().items():
        if 'running_var' in name or name.endswith(last_norms):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith('.bias') or 'running_mean' in name:
            tensor.normal_(std=0.2)
    return network


def train(network, mode=True):
    network.train(mode)  # the hosts return None
    return network


def make_images(n=2, size=32, dtype=torch.float64):
    scale = torch.linspace(0.5, 2, n, dtype=dtype).view(-1, 1, 1, 1)
    return torch.randn(n, 3, size, size, dtype=dtype) * scale


def compose(block, x, cls, position, module):
    """A block of the host with a module, by hand."""
    convs = [c for c in ('conv1', 'conv2', 'conv3') if hasattr(block, c)]
    identity = x if block.downsample is None else block.downsample(x)
    if position == 'residual':
        position = f'after_{convs[-1]}'
    features = []
    for i, name in enumerate(convs):
        conv = module if position == name else getattr(block, name)
        x = getattr(block, f'norm{i + 1}')(conv(x))
        if name != convs[-1]:
            x = F.relu(x)
        features.append(x)
        if position == f'after_{name}':
            x = module(features if cls is Reader else x)
    return F.relu(x + identity)
