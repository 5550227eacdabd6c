from importlib import import_module
from itertools import product

import pytest
import torch
from mmengine.runner import save_checkpoint
from networks import make_images, randomize, train

from mmba2m import HOSTS
from mmba2m.models.attentions import BA2M, RunningBN

pytestmark = [
    pytest.mark.filterwarnings('ignore:BA2M'),
    pytest.mark.parametrize('host', HOSTS),
]

NARROW = dict(depth=18, base_channels=8, stem_channels=8)
ALL = (0, 1, 2, 3)


def build(host, name='BA2MResNet', **kwargs):
    models = import_module(f'{host}.registry').MODELS
    cfg = dict(type=name, **{**NARROW, 'out_indices': ALL, **kwargs})
    if name.startswith('BA2M'):
        cfg.setdefault('ba2m_cfg', dict(reduction=4))
    return models.build(cfg)


def images(n=3):
    return make_images(n, dtype=torch.float32)


def stages(network):
    return [getattr(network, name) for name in network.res_layers]


# As the plain network


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
    x = images()
    plain.train(training)
    network.train(training)
    for out, expected in zip(network(x), plain(x), strict=True):
        assert torch.equal(out, expected)
    state = network.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key


# Where the modules go


def test_stages_are_chosen(host):
    for enabled in product((True, False), repeat=4):
        network = build(host, ba2m_stages=enabled)
        for i, stage in enumerate(stages(network)):
            assert hasattr(stage, 'ba2m') == enabled[i]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        *(
            (dict(ba2m_stages=on), f'{len(on)} entries.* 4 stages')
            for on in ((), (True,), (True,) * 5, [False] * 3)
        ),
        *(
            (dict(ba2m_cfg={'reduction': 4, key: 'BA2M'}), f"not '{key}'")
            for key in ('type', 'position', 'stages')
        ),
    ],
)
def test_what_does_not_fit_is_named(host, options, message):
    with pytest.raises(ValueError, match=message):
        build(host, **options)


# Training


@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize(
    ('frozen_stages', 'out_indices'),
    [
        (-1, (0,)),
        (-1, ALL),
        (0, (0, 2)),
        (1, (1,)),
        (1, (1, 2, 3)),
        (2, (1, 3)),
        (3, (0,)),
        (4, ALL),
    ],
)
def test_every_trainable_parameter_gets_a_gradient(
    host, frozen_stages, out_indices, norm_eval
):
    """Distributed training finds none that is unused.

    What is behind a frozen stage is new, so it trains.
    """
    network = build(
        host,
        out_indices=out_indices,
        frozen_stages=frozen_stages,
        norm_eval=norm_eval,
    )
    for i, stage in enumerate(stages(network)):
        # optimizers are built before the first call of train()
        assert stage.ba2m.training
        for parameter in stage.ba2m.parameters():
            assert parameter.requires_grad == (i <= max(out_indices))
    network.train()
    loss = sum(out.square().sum() for out in network(images(2)))
    if loss.requires_grad:
        loss.backward()
    for i, stage in enumerate(stages(network)):
        assert not any(
            parameter.requires_grad
            for name, parameter in stage.named_parameters()
            if i < frozen_stages and not name.startswith('ba2m')
        )
        for name, parameter in stage.ba2m.named_parameters():
            used = i <= max(out_indices)
            assert parameter.requires_grad == used, (i, name)
            assert (parameter.grad is not None) == used, (i, name)
            if used:
                assert parameter.grad.isfinite().all(), (i, name)
        # in a host that freezes its norms, the module's go on
        kind = RunningBN if norm_eval else torch.nn.BatchNorm2d
        assert any(isinstance(m, kind) for m in stage.ba2m.modules())
        assert all(m.training for m in stage.ba2m.modules())


def test_zero_init_starts_as_the_plain_network(host, tmp_path):
    plain = randomize(build(host, 'ResNet', depth=50))
    path = str(tmp_path / 'plain.pth')
    save_checkpoint(plain.state_dict(), path)
    ba2m_cfg = dict(reduction=4, zero_init=True)
    attention = dict(type='BA2M', position='after_conv2', **ba2m_cfg)
    pretrained = dict(type='Pretrained', checkpoint=path)

    def start(**kwargs):
        network = build(
            host, depth=50, ba2m_cfg=ba2m_cfg, attention=attention, **kwargs
        )
        network.init_weights()
        return train(network)

    x = images()
    expected = train(plain)(x)
    torch.testing.assert_close(start(init_cfg=pretrained)(x), expected)
    # without a checkpoint, the host sets the scales of all norms
    modules = [m for m in start().modules() if isinstance(m, BA2M)]
    assert len(modules) == 4 + 16
    for module in modules:
        maps = torch.randn(3, module.in_channels, 4, 4)
        assert torch.equal(module(maps), maps)
