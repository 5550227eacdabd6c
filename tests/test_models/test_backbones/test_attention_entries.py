import copy
from importlib import import_module

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint
from networks import randomize
from slot_modules import (
    CONVS,
    Gate,
    Reader,
    ScaledConv,
    Shift,
    Sized,
    SizedConv,
    build,
    each_host,
    needs_mmdet,
)
from torch import nn

from mmba2m.models.backbones.slots import list_attentions
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


def started(network):
    return [m for m in network.modules() if isinstance(m, Started)]


@each_host
def test_modules_start_as_they_say(host):
    network = build(host, STARTED)
    assert len(started(network)) == 6
    network.init_weights()
    for module in started(network):
        assert (module.fc.weight == 3).all()
    # the host's part is initialised as ever
    assert (network.layer1[0].norm2.weight == 0).all()
    assert network.layer1[0].conv1.weight.std() > 0.05


@each_host
def test_pretrained_weights_are_kept(host, tmp_path):
    path = str(tmp_path / 'network.pth')
    state = randomize(build(host, STARTED)).state_dict()
    for key in state:
        if key.endswith('fc.weight'):
            state[key].normal_()
    save_checkpoint(state, path)
    cfg = dict(type='Pretrained', checkpoint=path)
    network = build(host, STARTED, init_cfg=cfg)
    network.init_weights()
    torch.testing.assert_close(network.state_dict(), state)
    # of a plain one, the modules start as they say
    stock = {k: v for k, v in state.items() if 'started' not in k}
    save_checkpoint(stock, path)
    network = build(host, STARTED, init_cfg=cfg)
    network.init_weights()
    for module in started(network):
        assert (module.fc.weight == 3).all()


# Sizes of maps


@each_host
@pytest.mark.parametrize(
    ('depth', 'options'),
    [
        (18, dict()),
        (50, dict()),
        (50, dict(style='caffe')),
        (50, dict(deep_stem=True, avg_down=True)),
        (50, dict(strides=(2, 1), dilations=(1, 2))),
        (18, dict(norm_cfg=dict(type='SyncBN'), norm_eval=True)),
        (18, dict(name='AttentionResNet_CIFAR')),
    ],
    ids=str,
)
def test_map_size_is_that_of_the_place(host, depth, options):
    if host == 'mmdet' and 'name' in options:
        pytest.skip('MMDetection has no backbones for CIFAR')
    convs = CONVS[depth]
    size = (70, 37)
    positions = [f'after_{conv}' for conv in convs] + ['after_stage']
    network = build(
        host,
        [
            *(
                dict(type=Sized, position=position, postfix=i, input_size=size)
                for i, position in enumerate(positions)
            ),
            *(
                dict(type=SizedConv, position=conv, input_size=size)
                for conv in convs
            ),
        ],
        depth=depth,
        **options,
    )
    assert all(module.training for module in network.modules())
    found = [m for m in network.modules() if hasattr(m, 'map_size')]
    assert len({m.map_size for m in found}) > 1
    network(torch.randn(2, 3, *size).double())  # the modules compare
    with pytest.raises(AssertionError):
        network(torch.randn(2, 3, 96, 96).double())


@each_host
def test_one_number_is_a_square(host):
    network = build(host, dict(type=Sized, input_size=224))
    sizes = [
        layer[0].sized.map_size for layer in (network.layer1, network.layer2)
    ]
    assert sizes == [(56, 56), (28, 28)]
    assert all(p.device.type == 'cpu' for p in network.parameters())


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


@each_host
def test_those_of_mmcv_will_do(host):
    entry = dict(type='ContextBlock', ratio=0.5, position='after_stage')
    network = build(host, entry)
    assert network.layer2.context_block.in_channels == 16


def test_names_are_listed():
    names = list_attentions()
    assert 'BA2M' in names and names == sorted(names)
    assert all(MODELS.get(name).positions for name in names)


# Errors


@each_host
@pytest.mark.parametrize(
    ('depth', 'entry', 'message'),
    [
        (18, dict(type='Nonesuch'), r"'Nonesuch'; there are .*BA2M, "),
        (
            18,
            dict(type=Gate, position='after_conv3'),
            r"Gate in BasicBlock .*'after_conv2', .*'after_stage'\], got "
            "'after_conv3'",
        ),
        (
            50,
            dict(type=Shift, position='after_conv2'),
            r"Shift in Bottleneck .* \['after_conv1', 'residual'\], got "
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
        (
            18,
            dict(type='BA2M', stages=(False, True), reduction=32),
            r'layer2: BA2M needs .*in_channels=16',
        ),
        (18, dict(type=Gate, input_size=64), 'Gate .*input_size=64'),
        (
            18,
            dict(type=Sized, input_size=0),
            r'input_size=\(0, 0\).*give map_size',
        ),
        (
            18,
            [dict(type=ScaledConv), dict(type=SizedConv, input_size=32)],
            r'layer1\.0: conv2 is a ScaledConv already',
        ),
    ],
)
def test_what_does_not_fit_is_named(host, depth, entry, message):
    with pytest.raises(ValueError, match=message):
        build(host, entry, depth=depth)


@each_host
@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('SE', "a dict with a type.*got 'SE'"),
        (dict(position='residual'), "got {'position'"),
        (dict(type=Gate, ratio=4), r'layer1\.0: .*ratio'),
        (dict(type=Gate, position='after_stage', ratio=4), 'layer1: .*ratio'),
        (dict(type=ScaledConv, ratio=4), r'layer1\.0: .*ratio'),
        (dict(type=ScaledConv, postfix='_2'), r'layer1\.0: .*postfix'),
        (dict(type=Reader, ratio=4), r'layer1\.0: .*ratio'),
        (dict(type=Sized), r'layer1\.0: .*map_size'),
    ],
)
def test_what_cannot_be_called_is_named(host, entry, message):
    with pytest.raises(TypeError, match=message):
        build(host, entry)


@needs_mmdet
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
    with pytest.raises(ValueError, match=r'computed \(.*\); give map_size'):
        build('mmdet', dict(type=Sized, input_size=64), **options)


@each_host
def test_the_config_is_not_changed(host):
    entry = dict(type=Gate, position='after_conv1', stages=[1, 0])
    before = copy.deepcopy(entry)
    build(host, [entry])
    build(host, entry)
    assert entry == before
