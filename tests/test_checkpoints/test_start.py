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


def make_torchvision(name='resnet18'):
    network = getattr(torchvision.models, name)(weights=None)
    for key, tensor in network.state_dict().items():
        if 'running_var' in key:
            tensor.uniform_(0.5, 1.5)
        elif 'running_mean' in key:
            tensor.normal_(std=0.1)
    return network.eval()


def assert_started(start, weights):
    """Whether a start has these weights, bit for bit, and no others."""
    assert start['state_dict'].keys() == {f'backbone.{k}' for k in weights}
    for key, value in weights.items():
        assert torch.equal(start['state_dict'][f'backbone.{key}'], value)


@pytest.mark.parametrize('name', ['resnet18', 'resnext50_32x4d'])
def test_features_of_torchvision_are_kept(host, name, tmp_path):
    theirs = make_torchvision(name)
    cfg = make_config(host)
    if name != 'resnet18':
        width = dict(mmdet='base_width', mmpretrain='width_per_group')[host]
        cfg = make_config(host, 'BA2MResNeXt', 50, groups=32, **{width: 4})
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
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for i, found in enumerate(network(images), 1):
            x = getattr(theirs, f'layer{i}')(x)
            torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
            assert found.std() > 0.01
    assert i == 4


def test_the_report_accounts_for_every_weight(host):
    state = make_torchvision().state_dict()
    cfg = make_config(host)
    start, report = to_ba2m_start(dict(model=state, epoch=3), cfg)
    kept = {key: value for key, value in state.items() if key[:3] != 'fc.'}
    assert_started(start, kept)
    numbers = sum(value.numel() for value in kept.values())
    assert report[0] == (
        f'matched: {len(kept)} of {len(kept)} weights for BA2MResNet, '
        f'{numbers:,} numbers'
    )
    own = build(cfg).state_dict()
    for i in (1, 2, 3, 4):
        added = [v for k, v in own.items() if k.startswith(f'layer{i}.ba2m.')]
        assert report[i] == (
            f'new: layer{i}.ba2m, {len(added)} weights, '
            f'{sum(value.numel() for value in added):,} numbers'
        )
    unused = ['fc.weight (1000, 512)', 'fc.bias (1000,)']
    assert report[5:] == [f'not used: {one}' for one in unused]

    # old checkpoints have no counters
    state = {k: v for k, v in state.items() if not k.endswith('_tracked')}
    _, report = to_ba2m_start(state, cfg)
    assert report[0].startswith(f'matched: {len(state) - 2} of')
    assert report[5] == 'new: 20 counters of batch norms'


def test_networks_of_the_hosts_lose_prefix_and_head(host):
    plain = build(make_config(host, 'ResNet')).state_dict()
    state = {f'module.backbone.{key}': v for key, v in plain.items()}
    state['module.head.fc.weight'] = torch.zeros(7, 512)
    start, report = to_ba2m_start(dict(state_dict=state), make_config(host))
    assert_started(start, plain)
    assert report[-1] == 'not used: head.fc.weight (7, 512)'
    # modules that the checkpoint has are kept
    own = build(make_config(host)).state_dict()
    start, report = to_ba2m_start(own, make_config(host))
    assert_started(start, own)
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
    inside = [
        f'layer4.{block}.{name}'
        for block in range(3)
        for name in ('ba2m', 'context_block')
    ]
    assert sorted(new) == ['layer1.ba2m', *inside]
    assert not any('context_block' in key for key in start['state_dict'])
    # strides elsewhere are noted
    assert not any('caffe' in line for line in report)
    cfg.model.backbone.style = 'caffe'
    assert 'caffe' in to_ba2m_start(state, cfg)[1][-1]


@pytest.mark.parametrize(
    'name, options, named',
    [
        ('resnet34', {}, r'unexpected: layer1\.2\.conv1\.weight'),
        ('resnet18', dict(depth=34), r'missing: layer1\.2\.conv1\.w.*, …$'),
        (
            'resnext50_32x4d',
            dict(depth=50),
            r'layer1\.0\.conv1\.weight is \(128, 64, 1, 1\), not \(64, 64, ',
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
    with pytest.raises(ValueError, match='not fit the backbone.*' + named):
        to_ba2m_start(state, make_config(host, **options))


def test_configs_without_the_module_are_refused(host):
    with pytest.raises(ValueError, match='config, ResNet, has no BA2M'):
        to_ba2m_start({}, make_config(host, 'ResNet'))
    with pytest.raises(ValueError, match=r'no model\.backbone'):
        to_ba2m_start({}, Config(dict(default_scope=host)))
