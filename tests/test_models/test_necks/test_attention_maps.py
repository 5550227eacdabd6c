"""Attention modules behind a backbone, in front of a neck."""

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

import mmba2m.models  # noqa: F401

pytestmark = pytest.mark.filterwarnings('ignore')

WIDTHS = [8, 16]
LINES = dict(
    type='mmba2m.AttentionMaps',
    in_channels=WIDTHS,
    attention=dict(type='BA2M', reduction=4),
)


class Plain(BaseModule):
    """As a neck of a host, with weights, which starts at a level."""

    def __init__(self, in_channels, width=4, start_level=0):
        super().__init__()
        self.start_level = start_level
        self.convs = nn.ModuleList(nn.Conv2d(c, width, 1) for c in in_channels)

    def forward(self, inputs):
        outs = [conv(x) for conv, x in zip(self.convs, inputs, strict=True)]
        return tuple(outs[self.start_level :])


class Pool(nn.Module):
    """As MMPretrain's: without ``in_channels`` and ``init_cfg``."""

    def init_weights(self):
        pass

    def forward(self, inputs):
        return tuple(x.mean((2, 3)) for x in inputs)


def make_maps(n=3):
    scale = torch.linspace(0.5, 2, n).view(-1, 1, 1, 1)
    return tuple(
        torch.randn(n, c, 8 // (i + 1), 6) * scale
        for i, c in enumerate(WIDTHS)
    )


def weigh(module, x):
    return x * module.weigh(module.sample_attention(x)).view(-1, 1, 1, 1)


def test_it_weighs_each_map_for_the_next_of_a_list():
    neck, _ = necks = MODELS.build([LINES, dict(type=Pool)]).train()
    assert neck.attention_names == ['map0.ba2m', 'map1.ba2m']
    maps = make_maps()
    outs = neck(maps)
    for i, (x, out) in enumerate(zip(maps, outs, strict=True)):
        torch.testing.assert_close(
            out, weigh(neck.get_submodule(f'map{i}.ba2m'), x)
        )
        assert not torch.allclose(out, x)
    expected = [x.mean((2, 3)) for x in outs]
    torch.testing.assert_close(list(necks(maps)), expected)


@pytest.mark.parametrize('start_level', [0, 1])
def test_with_a_base_it_is_the_hosts_neck(start_level):
    options = dict(width=5, start_level=start_level)
    plain = Plain(WIDTHS, **options)
    neck = MODELS.build(dict(LINES, base=Plain, **options))
    neck.init_weights()
    missing, unexpected = neck.load_state_dict(plain.state_dict(), False)
    assert not unexpected and all('.ba2m.' in key for key in missing)
    maps = make_maps()
    torch.testing.assert_close(neck.eval()(maps), plain(maps))

    outs = neck.train()(maps)
    weighed = [
        weigh(neck.get_submodule(f'map{i}.ba2m'), x)
        for i, x in enumerate(maps)
    ]
    torch.testing.assert_close(outs, plain(weighed))
    sum(out.square().mean() for out in outs).backward()
    for i in range(2):
        for parameter in neck.get_submodule(f'map{i}.ba2m').parameters():
            assert parameter.requires_grad == (i >= start_level)
            assert (parameter.grad is not None) == (i >= start_level)


def test_a_base_without_channels_other_modules_and_levels():
    attention = [
        dict(type='SE', reduction=4),
        dict(type='BA2M', reduction=4, stages=(False, True)),
    ]
    neck = MODELS.build(dict(LINES, attention=attention, base=Pool)).eval()
    neck.init_weights()
    names = ['map0.se_layer', 'map1.se_layer', 'map1.ba2m']
    assert neck.attention_names == names
    maps = make_maps()
    expected = neck.map0.se_layer(maps[0]).mean((2, 3))
    torch.testing.assert_close(neck(maps)[0], expected)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(in_channels=[2, 16]), 'map0: .*in_channels=2'),
        (dict(base='Nothing'), "no 'Nothing'"),
        (dict(in_channels=[8, 16, 32]), '3 maps, the backbone puts out 2'),
        (
            dict(attention=dict(type='BA2M', stages=(True,))),
            '1 entries, the network has 2',
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(LINES, **changes))(make_maps())
