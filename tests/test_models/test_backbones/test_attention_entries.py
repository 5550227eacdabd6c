import copy
from importlib import import_module

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint
from networks import (
    CONVS,
    Gate,
    ScaledConv,
    Shift,
    Sized,
    SizedConv,
    build,
    each_host,
    randomize,
)
from torch import nn

from mmba2m import HOSTS
from mmba2m.registry import MODELS

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


# Starting weights


class Started(BaseModule):
    """Says what it starts as."""

    def __init__(self, in_channels):
        super().__init__()
        self.fc = nn.Conv2d(in_channels, 1, 1)
        nn.init.constant_(self.fc.weight, 3)

    def init_weights(self):
        super().init_weights()
        nn.init.constant_(self.fc.weight, 3)

    def forward(self, x):
        return x + self.fc(x)


STARTED = [dict(type=Started), dict(type=Started, position='after_stage')]


@each_host
def test_modules_start_as_they_say_or_as_the_checkpoint(host, tmp_path):
    path = str(tmp_path / 'network.pth')
    state = randomize(build(host, STARTED)).state_dict()
    for key in state:
        if key.endswith('fc.weight'):
            state[key].normal_()
    stock = {k: v for k, v in state.items() if 'started' not in k}
    pretrained = dict(init_cfg=dict(type='Pretrained', checkpoint=path))
    for options, saved in (
        ({}, {}),
        (pretrained, stock),
        (pretrained, state),
    ):
        save_checkpoint(saved, path)
        network = build(host, STARTED, **options)
        network.init_weights()
        if saved is state:
            torch.testing.assert_close(network.state_dict(), state)
            continue
        modules = [m for m in network.modules() if isinstance(m, Started)]
        assert len(modules) == 6
        for module in modules:
            assert (module.fc.weight == 3).all()
        if not options:  # the host's part is initialised as ever
            assert (network.layer1[0].norm2.weight == 0).all()
            assert network.layer1[0].conv1.weight.std() > 0.05


# Sizes of maps


@each_host
@pytest.mark.parametrize(
    ('depth', 'options', 'sizes'),
    [
        (18, dict(), [(18, 10), (9, 5)]),
        (50, dict(), [(18, 10), (9, 5)]),
        (50, dict(style='caffe'), [(18, 10), (9, 5)]),
        (50, dict(strides=(2, 1), dilations=(1, 2)), [(9, 5), [9, 5]]),
        (18, dict(name='AttentionResNet_CIFAR'), [(72, 40), (36, 20)]),
    ],
    ids=str,
)
def test_map_size_is_that_of_the_place(host, depth, options, sizes):
    if host == 'mmdet' and 'name' in options:
        pytest.skip('MMDetection has no backbones for CIFAR')
    convs = CONVS[depth]
    entries = [
        dict(type=Sized, position=position, postfix=i, map_size=sizes)
        for i, position in enumerate(
            [*(f'after_{conv}' for conv in convs), 'after_stage']
        )
    ] + [dict(type=SizedConv, position=conv, map_size=sizes) for conv in convs]
    network = build(host, entries, depth=depth, **options)
    # the modules compare
    network(torch.randn(2, 3, 72, 40).double())
    with pytest.raises(AssertionError):
        network(torch.randn(2, 3, 96, 96).double())


@each_host
def test_one_number_is_a_square_in_the_chosen_stages(host):
    entry = dict(type=Sized, map_size=[(28, 28)], stages=(False, True))
    for size in ([28], [(28, 28)]):
        network = build(host, dict(entry, map_size=size))
        assert network.layer2[0].sized.map_size == (28, 28)
        assert not hasattr(network.layer1[0], 'sized')


# Modules of one's own


@pytest.fixture
def register():
    added = []

    def add(registry, cls):
        registry.register_module(module=cls)
        added.append((registry, cls.__name__))

    yield add
    for registry, name in added:
        registry._module_dict.pop(name)


@each_host
@pytest.mark.parametrize('name', ['Own', '{}.Own', 'mmba2m.Own'])
def test_any_registry_will_do(host, name, register):
    class Own(Gate):
        pass

    registry = import_module(f'{host}.registry').MODELS
    register(MODELS if name == 'mmba2m.Own' else registry, Own)
    DefaultScope.get_instance('own', scope_name=host)
    network = build(host, dict(type=name.format(host)))
    assert type(network.layer1[0].own) is Own


# Errors


@each_host
@pytest.mark.parametrize(
    ('depth', 'entry', 'message'),
    [
        (18, dict(type='Nonesuch'), r"'Nonesuch'; there are .*BA2M, "),
        (
            18,
            dict(type=Gate, position='after_conv3'),
            r"Gate in .*BasicBlock.*'after_conv2', .*'after_stage'\], got "
            "'after_conv3'",
        ),
        (
            50,
            dict(type=Shift, position='after_conv2'),
            r"Shift in .*Bottleneck.* \['after_conv1', 'residual'\], got "
            "'after_conv2'",
        ),
        (18, dict(type=Gate, position='conv2'), "got 'conv2'"),
        (18, dict(type=ScaledConv, position='conv3'), "got 'conv3'"),
        (
            18,
            dict(type=Gate, stages=(True, False, True)),
            r'stages=\(True, .*\) of Gate has 3 entries.* 2 stages',
        ),
        (
            18,
            [dict(type=Gate), dict(type=Gate, position='after_conv1')],
            r"layer1\.0: there is a 'gate' already; give one a postfix",
        ),
        (
            18,
            [dict(type=Gate, position='after_stage')] * 2,
            r"layer1: there is a 'gate' already; give one a postfix",
        ),
        (
            18,
            dict(type='BA2M', position='residual'),
            r'layer1\.0: BA2M needs .*in_channels=8',
        ),
        (18, dict(type=Sized, map_size=28), r'Sized .* its 2 stages.* got 28'),
        (
            18,
            dict(type=Sized, map_size=[7, 4], stages=(0, 1)),
            r'Sized .* its 1 stages.* got \[7, 4\]',
        ),
        (
            18,
            [dict(type=ScaledConv), dict(type=SizedConv, map_size=(8, 4))],
            r'layer1\.0: conv2 is a ScaledConv already',
        ),
        (18, 'SE', "a dict with a type.*got 'SE'"),
        (18, dict(position='residual'), "got {'position'"),
        (18, dict(type=Gate, ratio=4), r'layer1\.0: .*ratio'),
        (
            18,
            dict(type=Gate, position='after_stage', ratio=4),
            'layer1: .*ratio',
        ),
        (18, dict(type=ScaledConv, postfix='_2'), r'layer1\.0: .*postfix'),
        (18, dict(type=Sized), r'layer1\.0: .*map_size'),
    ],
)
def test_what_does_not_fit_is_named(host, depth, entry, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(host, entry, depth=depth)


@pytest.mark.skipif('mmdet' not in HOSTS, reason='is of MMDetection')
def test_conv_slot_that_dcn_has_taken_is_named():
    stages = (False, True)
    dcn = dict(type='DCN', deform_groups=1, fallback_on_stride=False)
    options = dict(depth=50, dcn=dcn, stage_with_dcn=stages)
    with pytest.raises(ValueError, match=r'layer2\.0: conv2 is a Def.* dcn'):
        build('mmdet', dict(type=ScaledConv), **options)
    network = build(
        'mmdet',
        [dict(type=ScaledConv, stages=(True, False)), dict(type=Gate)],
        **options,
    )
    assert network.layer2[0].gate.fc.in_channels == 64


@each_host
def test_the_config_is_not_changed(host):
    entry = dict(type=Gate, position='after_conv1', stages=[1, 0])
    before = copy.deepcopy(entry)
    build(host, [entry])
    build(host, entry)
    assert entry == before
