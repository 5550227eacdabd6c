import pytest
import torch
from attention_checks import (
    assert_equal,
    check_equation,
    norm,
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


def version_1(module, features):
    squeezed = zip(module.bridges, squeeze(module, features), strict=True)
    s = sum(norm(bridge[2], s) for bridge, s in squeezed)
    return excite(module, s, features[-1])


def version_2(module, features):
    v, b = module.select.weight[0], module.select.bias
    squeezed = zip(v, squeeze(module, features), strict=True)
    s = norm(module.norm, sum(v_i * s_i for v_i, s_i in squeezed) + b)
    return excite(module, s, features[-1])


@pytest.mark.parametrize('widths', [WIDTHS, (8, 8)])
@pytest.mark.parametrize('literal', [version_1, version_2])
def test_equals_the_equation(literal, widths):
    convs = [nn.Conv2d(3, width, 1) for width in widths]
    version = (version_1, version_2).index(literal) + 1
    module = BridgeAttention.from_convs(convs, version=version, reduction=2)
    check_equation(
        module,
        literal,
        sizes=((5, 6), (1, 1)),
        make=lambda n, size: make_features(widths, n, size),
    )


@pytest.mark.parametrize('version', [1, 2])
def test_norm_without_batch(version):
    norm_cfg = dict(type='GN', num_groups=1)
    module = BridgeAttention(WIDTHS, version, reduction=2, norm_cfg=norm_cfg)
    features = make_features(n=3)
    alone = [x[1:2] for x in features]
    module.double()
    assert_equal(module(alone), module(features)[1:2])
