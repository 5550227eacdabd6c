from importlib import import_module

import pytest
import torch
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.checkpoints.strip import find_ba2m, strip_checkpoint
from mmba2m.models.attentions.ba2m import BA2M

each_host = pytest.mark.parametrize('host', HOSTS)

INSIDE = dict(type='BA2M', reduction=4, position='after_conv1')


def make_network(host, strength=0.0, **options):
    """A backbone with statistics, as after training, and its config."""
    ba2m_cfg = dict(options.pop('ba2m_cfg', {}), reduction=4)
    options = dict(depth=18, ba2m_cfg=ba2m_cfg) | options
    model = dict(type='BA2MResNet', base_channels=8, stem_channels=8)
    cfg = Config(dict(default_scope=host, model=model | options))
    network = import_module(f'{host}.registry').MODELS.build(cfg.model)
    for name, tensor in network.state_dict().items():
        if name.endswith('strength'):
            tensor.fill_(strength)
        elif 'running_var' in name or name.endswith('running_normalizer'):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.2)
    network.eval()
    return network, cfg


def predict(network):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 40, 32, generator=generator)
    with torch.no_grad():
        return network(images * torch.tensor([0.5, 1, 2]).view(-1, 1, 1, 1))


@pytest.mark.parametrize(
    'options',
    [
        dict(ba2m_stages=(False, True, False, True)),
        dict(frozen_stages=2, norm_eval=True),
        dict(ba2m_cfg=dict(inference='sample')),
        dict(ba2m_cfg=dict(inference='batch', scale_by_batch=False)),
        dict(
            ba2m_cfg=dict(
                branches=('global',), norm_cfg=dict(type='GN', num_groups=1)
            )
        ),
        dict(depth=50, attention=INSIDE),
        dict(depth=50, attention=INSIDE, ba2m_stages=(False,) * 4),
        dict(attention=dict(type='ContextBlock', ratio=0.5)),
    ],
)
@each_host
def test_the_stock_network_predicts_the_same_bit_for_bit(host, options):
    network, cfg = make_network(host, **options)
    state = network.state_dict()
    stripped, stock_cfg, _ = strip_checkpoint(dict(state_dict=state), cfg)

    other = options.get('attention') not in (None, INSIDE)
    assert stock_cfg.model.type == ('AttentionResNet' if other else 'ResNet')
    models = import_module(f'{host}.registry').MODELS
    stock = models.build(stock_cfg.model)
    stock.load_state_dict(stripped['state_dict'], strict=True)
    assert not any(isinstance(module, BA2M) for module in stock.modules())
    stock.eval()
    for ours, theirs in zip(predict(network), predict(stock), strict=True):
        assert torch.equal(ours, theirs)

    # what was taken out had worked
    for name, tensor in state.items():
        if name.endswith('strength'):
            tensor.fill_(1)
    assert not torch.equal(predict(network)[-1], predict(stock)[-1])


@pytest.fixture(params=HOSTS)
def annealed(request):
    return make_network(request.param)


def test_averaged_weights_are_stripped_and_what_resumes_is_dropped(annealed):
    network, cfg = annealed
    state = network.state_dict()
    average = {f'module.{key}': value + 0 for key, value in state.items()}
    average['steps'] = torch.tensor(3)
    meta = dict(epoch=7, cfg='old')
    checkpoint = dict(meta=meta, state_dict=state, ema_state_dict=average)
    checkpoint |= dict(optimizer=dict(state={}), message_hub={})
    stripped, stock_cfg, report = strip_checkpoint(checkpoint, cfg)
    assert set(stripped) == {'meta', 'state_dict', 'ema_state_dict'}
    assert stripped['meta'] == dict(epoch=7, cfg=stock_cfg.pretty_text)
    assert list(stripped['ema_state_dict']) == [
        *(f'module.{key}' for key in stripped['state_dict']),
        'steps',
    ]
    assert not any('ba2m' in key for key in stripped['ema_state_dict'])
    assert report[1].startswith('ema_state_dict: without 4 BA2M modules')
    assert report[2].endswith('not resumed: optimizer, message_hub')
    # the input is as it was
    assert meta == dict(epoch=7, cfg='old')
    assert 'layer1.ba2m.strength' in checkpoint['state_dict']
    assert cfg.model.type == 'BA2MResNet'

    average['module.layer2.ba2m.strength'] = torch.full((1,), 0.25)
    with pytest.raises(ValueError, match=r'1 of 4 .*layer2\.ba2m 0\.25\.'):
        strip_checkpoint(checkpoint, cfg)


@pytest.mark.parametrize(
    ('ba2m_cfg', 'named'),
    [
        (dict(), None),
        (dict(scale_by_batch=False), 'times too large'),
        (dict(inference='identity'), 'stripping changes no prediction'),
    ],
)
@each_host
def test_what_was_not_annealed_is_refused_unless_forced(host, ba2m_cfg, named):
    network, cfg = make_network(host, 1.0, ba2m_cfg=ba2m_cfg)
    checkpoint = dict(state_dict=network.state_dict())
    listed = ', '.join(rf'layer{i}\.ba2m 1' for i in (1, 2, 3, 4))
    with pytest.raises(
        ValueError,
        match=r'^4 of 4 BA2M modules still have a strength \(0 is annealed\): '
        rf'{listed}\. .*features it was not trained with.*with --force$',
    ) as error:
        strip_checkpoint(checkpoint, cfg)
    for text in ('times too large', 'stripping changes no prediction'):
        assert (text in str(error.value)) == (text == named)

    stripped, _, _ = strip_checkpoint(checkpoint, cfg, force=True)
    assert not any('ba2m' in key for key in stripped['state_dict'])


def test_what_does_not_fit_is_named(annealed):
    network, cfg = annealed
    state = network.state_dict()
    plain = {k: v for k, v in state.items() if 'ba2m' not in k}
    with pytest.raises(ValueError, match='no BA2M module'):
        strip_checkpoint(plain, cfg)
    del state['layer2.0.conv1.weight']
    with pytest.raises(ValueError, match=r'1 missing: layer2\.0\.conv1\.w'):
        strip_checkpoint(state, cfg)
    cfg.model.depth = 34
    with pytest.raises(ValueError, match=r'missing: layer1\.2\.conv1\.weight'):
        strip_checkpoint(state, cfg, force=True)


def test_a_config_that_would_read_back_otherwise_is_refused(annealed):
    network, cfg = annealed
    state = network.state_dict()
    for key in ("a': print(1), 'b", "a': 1, 'b"):
        cfg.other = {key: 2}
        with pytest.raises(ValueError, match='config'):
            strip_checkpoint(dict(state_dict=state), cfg)


def test_modules_are_found_by_what_they_hold():
    zero = torch.zeros(1)
    first, second = BA2M(4, 2), BA2M(8, 4, branches=('local',))
    weights = {
        'conv.weight': zero,
        'odd_ba2m.weight': zero,  # only the name
        'a.strength': zero,  # only one of the two
        'b.running_normalizer': zero,
        **{f'a.any_name.{k}': v for k, v in first.state_dict().items()},
        **{f'c.1.{k}': v for k, v in second.state_dict().items()},
    }
    assert find_ba2m(weights) == {
        'a.any_name': [f'a.any_name.{key}' for key in first.state_dict()],
        'c.1': [f'c.1.{key}' for key in second.state_dict()],
    }
    weights['c.1.fourth.weight'] = zero
    with pytest.raises(ValueError, match=r'c\.1\.fourth\.weight is of no'):
        find_ba2m(weights)
