import pytest
import torch
from attention_checks import (
    assert_equal,
    count,
    count_network,
    norm,
    randomize,
    unequal_samples,
)
from torch import nn

from mmba2m.models.attentions import BridgeAttention

WIDTHS = (4, 4, 16)


def make_features(widths=WIDTHS, n=3, size=(5, 6)):
    features = [unequal_samples(n, width, *size) for width in widths]
    # conv2 may have a stride: the first map is larger
    features[0] = unequal_samples(n, widths[0], 2 * size[0], 2 * size[1])
    return [*(x.relu() for x in features[:-1]), features[-1]]


def squeeze(module, features):
    return [
        torch.einsum('nchw,mc->nm', x, bridge[1].weight[..., 0, 0])[
            ..., None, None
        ]
        / x[0, 0].numel()
        for bridge, x in zip(module.bridges, features, strict=True)
    ]  # (N, m, 1, 1) each


def excite(module, s, x):
    weight = module.excite[1].weight[..., 0, 0]
    gate = torch.einsum('nmhw,cm->nchw', s.clamp(min=0), weight).sigmoid()
    assert gate.min() > 0
    assert gate.max() < 1
    return x * gate


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
@pytest.mark.parametrize('widths', [WIDTHS, (8, 8)])
def test_version_1_equals_the_equation(widths, size, n, training):
    module = BridgeAttention(widths, version=1, reduction=2)
    randomize(module).train(training)
    features = make_features(widths, n, size)
    s = sum(
        norm(bridge[2], s)
        for bridge, s in zip(
            module.bridges, squeeze(module, features), strict=True
        )
    )
    assert_equal(module(features), excite(module, s, features[-1]))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
@pytest.mark.parametrize('widths', [WIDTHS, (8, 8)])
def test_version_2_equals_the_equation(widths, size, n, training):
    module = BridgeAttention(widths, version=2, reduction=2)
    randomize(module).train(training)
    features = make_features(widths, n, size)
    v, b = module.select.weight[0], module.select.bias
    s = sum(
        v_i * s_i
        for v_i, s_i in zip(v, squeeze(module, features), strict=True)
    )
    s = norm(module.norm, s + b)
    assert_equal(module(features), excite(module, s, features[-1]))


def test_version_2_with_weights_1_sums():
    module = randomize(BridgeAttention(WIDTHS, version=2, reduction=2))
    nn.init.ones_(module.select.weight)
    nn.init.zeros_(module.select.bias)
    features = make_features()
    s = norm(module.norm, sum(squeeze(module, features)))
    assert_equal(module(features), excite(module, s, features[-1]))


@pytest.mark.parametrize(
    ('depth', 'version', 'expected'),
    [
        (18, 1, 11820552),
        (34, 1, 22034392),
        (50, 1, 28706376),
        (101, 1, 50490312),
        (18, 2, 11820336),
        (34, 2, 22033968),
        (50, 2, 28702664),
        (101, 2, 50482316),
    ],
)
def test_number_of_parameters(depth, version, expected):
    def build(i, widths):
        module = BridgeAttention(widths, version=version)
        n, c = len(widths), widths[-1]
        m = c // 16
        norms = 2 * m * n if version == 1 else n + 1 + 2 * m
        assert count(module) == m * sum(widths) + norms + m * c
        return module

    assert count_network(depth, build) == expected


@pytest.mark.parametrize('version', [1, 2])
def test_all_parameters_learn(version):
    convs = [nn.Conv2d(16, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 16, 1)]
    module = BridgeAttention.from_convs(convs, version=version, reduction=2)
    features = [x.requires_grad_() for x in make_features()]
    randomize(module).eval()(features).square().sum().backward()
    for tensor in (*features, *module.parameters()):
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize('version', [1, 2])
def test_norm_without_batch(version):
    norm_cfg = dict(type='GN', num_groups=1)
    module = BridgeAttention(WIDTHS, version, reduction=2, norm_cfg=norm_cfg)
    features = make_features(n=3)
    alone = [x[1:2] for x in features]
    module.double()
    assert_equal(module(alone), module(features)[1:2])


@pytest.mark.parametrize('version', [1, 2])
def test_autocast(version):
    module = BridgeAttention(WIDTHS, version, reduction=2).eval()
    features = [x.float() for x in make_features()]
    with torch.autocast('cpu', torch.bfloat16):
        result = module(features)
    torch.testing.assert_close(result, module(features), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((WIDTHS, 3), r'version.*\(1, 2\), got 3'),
        ((WIDTHS, 1, 17), 'BridgeAttention.*reduction=17 and 16 channels'),
        ((16,), "in_channels=16.*'attention' of a backbone"),
    ],
)
def test_arguments_out_of_range(args, message):
    with pytest.raises(ValueError, match=message):
        BridgeAttention(*args)
