from importlib import import_module
from itertools import product

import pytest
import torch
import torchvision
from mmengine.optim import build_optim_wrapper
from mmengine.runner import save_checkpoint
from networks import make_images, randomize, train

from mmba2m import HOSTS
from mmba2m.models.attentions.ba2m import BA2M

pytestmark = [
    pytest.mark.filterwarnings('ignore:BA2M'),
    pytest.mark.parametrize('host', HOSTS),
]

NARROW = dict(depth=18, base_channels=8, stem_channels=8)
ALL = (0, 1, 2, 3)
SUBSETS = [(0,), (1,), (2,), (3,), (0, 2), (1, 3), (1, 2, 3), ALL]


def build(host, name='BA2MResNet', **kwargs):
    models = import_module(f'{host}.registry').MODELS
    cfg = dict(type=name, **{**NARROW, 'out_indices': ALL, **kwargs})
    if name.startswith('BA2M'):
        cfg.setdefault('ba2m_cfg', dict(reduction=4))
    return models.build(cfg)


def stages(network):
    return [getattr(network, name) for name in network.res_layers]


def hide_modules(network):
    return {
        key: value
        for key, value in network.state_dict().items()
        if '.ba2m.' not in key
    }


# What a plain network and its checkpoints know


@pytest.mark.parametrize(
    ('name', 'depth'),
    [
        ('ResNet', 18),
        ('ResNet', 50),
        ('ResNeXt', 50),
        ('ResNet_CIFAR', 18),
        ('ResNet_CIFAR', 50),
    ],
)
def test_keys_of_the_host_are_unchanged(host, name, depth):
    if name == 'ResNet_CIFAR' and host == 'mmdet':
        pytest.skip('MMDetection has no ResNet_CIFAR')
    options = dict(depth=depth, base_channels=16, stem_channels=16)
    if name == 'ResNeXt':
        width = dict(mmdet='base_width', mmpretrain='width_per_group')[host]
        options.update({'groups': 4, width: 4})
    plain = build(host, name, **options)
    network = build(host, f'BA2M{name}', **options)
    assert list(hide_modules(network)) == list(plain.state_dict())
    for i, stage in enumerate(stages(network)):
        prefix = f'layer{i + 1}.ba2m.'
        assert [*stage.named_children()][-1][0] == 'ba2m'
        assert any(key.startswith(prefix) for key in network.state_dict())
        assert stage.ba2m.in_channels == 16 * 2**i * (4 if depth == 50 else 1)


def test_torchvision_checkpoint_loads(host, tmp_path):
    weights = torchvision.models.resnet18(weights=None).state_dict()
    path = str(tmp_path / 'resnet18.pth')
    save_checkpoint(weights, path)
    network = build(
        host,
        base_channels=64,
        stem_channels=64,
        init_cfg=dict(type='Pretrained', checkpoint=path),
    )
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert unexpected == ['fc.weight', 'fc.bias']
    assert missing and all('.ba2m.' in key for key in missing)

    for parameter in network.parameters():
        parameter.data.zero_()
    network.init_weights()
    for key, value in hide_modules(network).items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize(
    ('off', 'training'),
    [
        ('stages', True),
        ('stages', False),
        ('strength', True),
        ('strength', False),
        ('identity', False),
        ('fresh', False),  # the running normaliser was never updated
    ],
)
def test_switched_off_it_is_the_host_bit_for_bit(host, off, training):
    options = {}
    if off == 'stages':
        options['ba2m_stages'] = (False,) * 4
    if off == 'identity':
        options['ba2m_cfg'] = dict(reduction=4, inference='identity')
    plain = randomize(build(host, 'ResNet', norm_eval=False))
    network = build(host, norm_eval=False, **options)
    network.load_state_dict(plain.state_dict(), strict=False)
    for module in network.modules():
        if isinstance(module, BA2M) and off != 'fresh':
            module.running_normalizer.fill_(1.7)
            module.strength.fill_(float(off != 'strength'))
    x = make_images(3)
    plain.train(training)
    network.train(training)
    for out, expected in zip(network(x), plain(x), strict=True):
        assert torch.equal(out, expected)
    state = network.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key


def test_switched_on_it_is_not_the_host(host):
    plain = randomize(build(host, 'ResNet'))
    network = build(host)
    network.load_state_dict(plain.state_dict(), strict=False)
    x = make_images(3)
    for out, expected in zip(train(network)(x), plain(x), strict=True):
        assert not torch.allclose(out, expected, rtol=1e-3)


def test_the_weighted_map_is_handed_on(host):
    network = train(randomize(build(host)))
    seen = []
    for stage in stages(network):
        stage.ba2m.register_forward_hook(
            lambda module, args, out: seen.append((module, args[0], out))
        )
    outs = network(make_images(3))
    for out, (module, x, y) in zip(outs, seen, strict=True):
        assert out is y
        w = module.weigh(module.sample_attention(x))
        torch.testing.assert_close(out, x * w.view(-1, 1, 1, 1))


# Where the modules go


@pytest.mark.parametrize(
    'enabled', list(product((True, False), repeat=4)), ids=str
)
def test_stages_are_chosen(host, enabled):
    network = build(host, ba2m_stages=enabled)
    for i, stage in enumerate(stages(network)):
        assert hasattr(stage, 'ba2m') == enabled[i]
        if enabled[i]:
            assert stage.ba2m.in_channels == 8 * 2**i


@pytest.mark.parametrize('num_stages', [1, 2, 3])
def test_fewer_stages(host, num_stages):
    options = dict(
        num_stages=num_stages,
        strides=(1, 2, 2, 2)[:num_stages],
        dilations=(1,) * num_stages,
        out_indices=(num_stages - 1,),
    )
    network = build(host, **options)
    assert [s.ba2m.in_channels for s in stages(network)] == [8, 16, 32][
        :num_stages
    ]
    (out,) = train(network)(make_images())
    assert out.shape[1] == 8 * 2 ** (num_stages - 1)


@pytest.mark.parametrize('enabled', [(), (True,), (True,) * 5, [False] * 3])
def test_wrong_number_of_stages_is_named(host, enabled):
    message = f'{len(enabled)} entries.* 4 stages'
    with pytest.raises(ValueError, match=message):
        build(host, ba2m_stages=enabled)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(reduction=16), 'layer1: .*reduction=16 and in_channels=8'),
        (dict(reduction=4, inference='mean'), "layer1: .*'mean'"),
        (dict(reduction=4, num_heads=2), 'layer1: num_heads=2'),
        (dict(reduction=4, norm_cfg=dict(type='IN')), "layer1: .*'IN'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_layer(host, cfg, message):
    with pytest.raises(ValueError, match=message):
        build(host, ba2m_cfg=cfg)


def test_first_stage_that_does_not_fit_is_named(host):
    enabled = (False, False, True, True)
    with pytest.raises(ValueError, match=r'layer3: .*in_channels=32'):
        build(host, ba2m_stages=enabled, ba2m_cfg=dict(reduction=64))


def test_unknown_argument_is_named(host):
    with pytest.raises(TypeError, match=r'layer1: .*ratio'):
        build(host, ba2m_cfg=dict(ratio=4))


# Training


@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 3, 4])
def test_every_trainable_parameter_gets_a_gradient(
    host, frozen_stages, norm_eval
):
    x = make_images()
    for out_indices in SUBSETS:
        network = build(
            host,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
        )
        network.train()
        loss = sum(out.square().sum() for out in network(x))
        if loss.requires_grad:
            loss.backward()
        for i, stage in enumerate(stages(network)):
            frozen = i < frozen_stages
            for name, parameter in stage.ba2m.named_parameters():
                where = f'{out_indices}, layer{i + 1}.ba2m.{name}'
                used = not frozen and i <= max(out_indices)
                assert parameter.requires_grad == used, where
                assert (parameter.grad is not None) == used, where
                if used:
                    assert parameter.grad.isfinite().all(), where
            for module in stage.ba2m.modules():
                batch_norm = isinstance(module, torch.nn.BatchNorm2d)
                expected = not frozen and not (norm_eval and batch_norm)
                assert module.training == expected


def test_frozen_stage_uses_population_weights(host):
    network = train(randomize(build(host, frozen_stages=1)))
    frozen, trained = network.layer1.ba2m, network.layer2.ba2m
    frozen.running_normalizer.fill_(1.5)
    seen = []
    frozen.register_forward_hook(
        lambda m, args, out: seen.append((*args, out))
    )
    network(make_images(3))
    ((x, y),) = seen
    w = frozen.sample_attention(x).exp() / 1.5
    torch.testing.assert_close(y, x * w.view(-1, 1, 1, 1))
    assert frozen.running_normalizer == 1.5
    assert trained.running_normalizer > 1


@pytest.mark.parametrize('norm_eval', [True, False])
def test_with_cp_changes_nothing(host, norm_eval):
    networks = [
        build(host, with_cp=with_cp, norm_eval=norm_eval).double()
        for with_cp in (False, True)
    ]
    randomize(networks[0])
    networks[1].load_state_dict(networks[0].state_dict())
    x = make_images(3).double()
    results = []
    for network in networks:
        outs = train(network)(x)
        sum(out.square().mean() for out in outs).backward()
        grads = {
            name: p.grad
            for name, p in network.named_parameters()
            if p.grad is not None
        }
        normalizers = [s.ba2m.running_normalizer for s in stages(network)]
        results.append((outs, grads, normalizers))
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-10)


def test_init_weights_reaches_the_modules(host):
    network = build(host)
    network.init_weights()
    for stage in stages(network):
        for module in stage.ba2m.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert (module.weight == 1).all()
            for parameter in module.parameters(recurse=False):
                assert parameter.isfinite().all()
    outs = train(network)(make_images(3))
    assert all(out.isfinite().all() for out in outs)


def test_zero_init_starts_as_the_plain_network(host, tmp_path):
    plain = randomize(build(host, 'ResNet', depth=50))
    path = str(tmp_path / 'plain.pth')
    save_checkpoint(plain.state_dict(), path)
    ba2m_cfg = dict(reduction=4, zero_init=True)
    plugin = dict(type='mmba2m.BA2M', **ba2m_cfg)
    plugins = [dict(cfg=plugin, position='after_conv2')]
    pretrained = dict(type='Pretrained', checkpoint=path)

    def start(**kwargs):
        network = build(
            host, depth=50, ba2m_cfg=ba2m_cfg, plugins=plugins, **kwargs
        )
        network.init_weights()
        return train(network)

    x = make_images(3)
    expected = train(plain)(x)
    torch.testing.assert_close(start(init_cfg=pretrained)(x), expected)
    # without a checkpoint, the host sets the scales of all norms
    modules = [m for m in start().modules() if isinstance(m, BA2M)]
    assert len(modules) == 4 + 16
    for module in modules:
        maps = torch.randn(3, module.in_channels, 4, 4)
        assert torch.equal(module(maps), maps)


@pytest.mark.parametrize('frozen_stages', [-1, 1, 2, 4])
def test_frozen_from_the_start(host, frozen_stages):
    """Optimizers are built before the first call of train()."""
    network = build(host, frozen_stages=frozen_stages)
    for i, stage in enumerate(stages(network)):
        assert stage.ba2m.training == (i >= frozen_stages)
        for parameter in stage.ba2m.parameters():
            assert parameter.requires_grad == (i >= frozen_stages)


def test_the_host_keeps_the_input_of_the_module_anyway(host):
    """So a product that saves its output, not its input, saves no memory.

    A stage ends in a ReLU, whose backward pass keeps what the module gets;
    that the module's product keeps it as well costs nothing.
    """
    network = train(build(host))
    inputs, kept = [], set()
    for stage in stages(network):
        stage.ba2m.register_forward_pre_hook(
            lambda module, args: inputs.append(args[0].data_ptr())
        )
        stage.ba2m.forward = lambda x: x  # the host alone
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.add(t.data_ptr()), t)[1], lambda t: t
    ):
        outs = network(make_images(3))
    assert outs
    assert len(inputs) == 4
    assert set(inputs) <= kept


def test_modules_have_optimizer_settings_of_their_own(host):
    network = build(host)
    rules = dict(custom_keys={'ba2m': dict(decay_mult=0.0, lr_mult=10)})
    wrapper = build_optim_wrapper(
        network,
        dict(
            optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4),
            paramwise_cfg=rules,
        ),
    )
    settings = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    modules = [m for m in network.modules() if isinstance(m, BA2M)]
    own = {id(p) for module in modules for p in module.parameters()}
    assert len(modules) == 4
    for parameter in network.parameters():
        expected = (1.0, 0.0) if id(parameter) in own else (0.1, 1e-4)
        assert settings[id(parameter)] == pytest.approx(expected)
