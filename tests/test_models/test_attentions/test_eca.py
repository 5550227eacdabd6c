import pytest
import torch
from attention_checks import (
    assert_equal,
    check_equation,
    randomize,
    unequal_samples,
)

from mmba2m.models.attentions import ECA


def eca(module, x):
    z = x.flatten(2).mean(2)
    weights = module.conv.weight.flatten()
    mixed = torch.zeros_like(z)
    for c in range(8):
        for j, weight in enumerate(weights):
            neighbour = c + j - len(weights) // 2
            if 0 <= neighbour < 8:
                mixed[:, c] += weight * z[:, neighbour]
    return x * mixed.sigmoid()[..., None, None]


@pytest.mark.parametrize('k', [1, 3, 5])
def test_equals_the_equation(k):
    check_equation(ECA(8, kernel_size=k), eca)


@pytest.mark.parametrize('kernel_size', [None, 3])
@pytest.mark.parametrize('c', [16, 96, 256])
def test_equals_timm(c, kernel_size):
    timm = pytest.importorskip('timm.layers')
    module = randomize(ECA(c, kernel_size))
    other = timm.EcaModule(c if kernel_size is None else None, 3).double()
    other.load_state_dict(module.state_dict())
    x = unequal_samples(3, c, 5, 6)
    assert_equal(module(x), other(x))


def test_the_kernel_grows_with_the_channels():
    for c, k in {64: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 2048: 7}.items():
        assert ECA(c).conv.kernel_size == (k,)
