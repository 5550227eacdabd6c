from importlib import import_module

import pytest
import torch
import torchvision
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.checkpoints.start import to_ba2m_start

pytestmark = pytest.mark.parametrize('host', HOSTS)


def make_config(host, name='BA2MResNet', depth=18, **options):
    if name.startswith('BA2M'):
        options.setdefault('ba2m_cfg', dict(reduction=4))
    backbone = dict(
        type=name, depth=depth, out_indices=(0, 1, 2, 3), **options
    )
    return Config(dict(default_scope=host, model=dict(backbone=backbone)))


def build(cfg):
    models = import_module(f'{cfg.default_scope}.registry').MODELS
    return models.build(cfg.model.backbone)


def make_torchvision(name='resnet18', **kwargs):
    network = getattr(torchvision.models, name)(weights=None, **kwargs)
    for key, tensor in network.state_dict().items():
        if 'running_var' in key:
            tensor.uniform_(0.5, 1.5)
        elif 'running_mean' in key:
            tensor.normal_(std=0.1)
    network.eval()
    return network


def torchvision_features(network, x):
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    features = []
    for layer in (
        network.layer1,
        network.layer2,
        network.layer3,
        network.layer4,
    ):
        x = layer(x)
        features.append(x)
    return features


def width_option(host, width):
    return {
        dict(mmdet='base_width', mmpretrain='width_per_group')[host]: width
    }


@pytest.mark.parametrize(
    ('name', 'depth', 'ours'),
    [
        ('resnet18', 18, 'BA2MResNet'),
        ('resnext50_32x4d', 50, 'BA2MResNeXt'),
    ],
)
def test_features_of_torchvision_are_kept(host, name, depth, ours, tmp_path):
    theirs = make_torchvision(name)
    options = {}
    if ours == 'BA2MResNeXt':
        options = dict(groups=32, **width_option(host, 4))
    cfg = make_config(host, ours, depth, **options)
    start, _ = to_ba2m_start(theirs.state_dict(), cfg)
    path = str(tmp_path / 'start.pth')
    torch.save(start, path)

    # as a config says it
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=path, prefix='backbone.'
    )
    network = build(cfg)
    network.init_weights()
    network.eval()
    images = torch.randn(2, 3, 64, 64) * torch.tensor([1, 2]).view(2, 1, 1, 1)
    with torch.no_grad():
        expected = torchvision_features(theirs, images)
        found = network(images)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        assert one.std() > 0.01


def test_the_report_accounts_for_every_weight(host):
    theirs = make_torchvision()
    state = theirs.state_dict()
    start, report = to_ba2m_start(
        dict(model=state, epoch=3), make_config(host)
    )
    kept = {key: value for key, value in state.items() if key[:3] != 'fc.'}
    assert start['state_dict'].keys() == {f'backbone.{key}' for key in kept}
    for key, value in kept.items():
        assert torch.equal(start['state_dict'][f'backbone.{key}'], value)
    numbers = sum(value.numel() for value in kept.values())
    assert report[0] == (
        f'matched: {len(kept)} of {len(kept)} weights for BA2MResNet, '
        f'{numbers:,} numbers'
    )
    own = build(make_config(host)).state_dict()
    for i in (1, 2, 3, 4):
        added = [v for k, v in own.items() if k.startswith(f'layer{i}.ba2m.')]
        assert report[i] == (
            f'new: layer{i}.ba2m, {len(added)} weights, '
            f'{sum(value.numel() for value in added):,} numbers'
        )
    assert report[5:] == [
        'not used: fc.weight (1000, 512)',
        'not used: fc.bias (1000,)',
    ]


def test_networks_of_the_hosts_lose_prefix_and_head(host):
    plain = build(make_config(host, 'ResNet'))
    state = {
        **{f'module.backbone.{k}': v for k, v in plain.state_dict().items()},
        'module.head.fc.weight': torch.zeros(7, 512),
    }
    start, report = to_ba2m_start(dict(state_dict=state), make_config(host))
    for key, value in plain.state_dict().items():
        assert torch.equal(start['state_dict'][f'backbone.{key}'], value)
    assert len(start['state_dict']) == len(plain.state_dict())
    assert report[-1] == 'not used: head.fc.weight (7, 512)'
    # modules that the checkpoint has are kept
    network = build(make_config(host))
    start, report = to_ba2m_start(network.state_dict(), make_config(host))
    assert len(start['state_dict']) == len(network.state_dict())
    assert len(report) == 1


def test_attention_inside_blocks_starts_anew(host):
    last = (False, False, False, True)
    attention = [
        dict(type='BA2M', reduction=4, position='after_conv1', stages=last),
        dict(type='ContextBlock', ratio=0.25, stages=last),
    ]
    cfg = make_config(
        host, depth=50, attention=attention, ba2m_stages=(True, *last[:3])
    )
    state = make_torchvision('resnet50').state_dict()
    start, report = to_ba2m_start(state, cfg)
    new = [line.split()[1].strip(',') for line in report if line[:3] == 'new']
    blocks = [f'layer4.{j}' for j in range(3)]
    assert sorted(new) == sorted(
        ['layer1.ba2m']
        + [f'{block}.ba2m' for block in blocks]
        + [f'{block}.context_block' for block in blocks]
    )
    assert not any('context_block' in key for key in start['state_dict'])


def test_old_checkpoints_have_no_counters(host):
    state = {
        key: value
        for key, value in make_torchvision().state_dict().items()
        if not key.endswith('num_batches_tracked')
    }
    _, report = to_ba2m_start(state, make_config(host))
    assert report[0].startswith(f'matched: {len(state) - 2} of')
    assert report[5] == 'new: 20 counters of batch norms'


@pytest.mark.parametrize(
    ('name', 'options', 'named'),
    [
        ('resnet34', dict(), r'unexpected: layer1\.2\.conv1\.weight'),
        (
            'resnet18',
            dict(depth=34),
            r'missing: layer1\.2\.conv1\.weight, .*, …$',
        ),
        (
            'resnext50_32x4d',
            dict(depth=50),
            r'layer1\.0\.conv1\.weight is \(128, 64, 1, 1\), not '
            r'\(64, 64, 1, 1\)',
        ),
        (
            'resnet18',
            dict(deep_stem=True),
            r'missing: stem\.0\..*unexpected: conv1\.weight',
        ),
    ],
)
def test_other_networks_are_refused_by_name(host, name, options, named):
    state = make_torchvision(name).state_dict()
    with pytest.raises(ValueError, match='does not fit the backbone') as error:
        to_ba2m_start(state, make_config(host, **options))
    error.match(named)


def test_configs_without_the_module_are_refused(host):
    state = make_torchvision().state_dict()
    with pytest.raises(ValueError, match='config, ResNet, has no BA2M'):
        to_ba2m_start(state, make_config(host, 'ResNet'))
    with pytest.raises(ValueError, match=r'no model\.backbone'):
        to_ba2m_start(state, Config(dict(default_scope=host)))


def test_strides_elsewhere_are_noted(host):
    state = make_torchvision('resnet50').state_dict()
    _, report = to_ba2m_start(state, make_config(host, depth=50))
    assert not any('caffe' in line for line in report)
    cfg = make_config(host, depth=50, style='caffe')
    assert 'caffe' in to_ba2m_start(state, cfg)[1][-1]
