import pytest
import torch
from attention_checks import (
    PLAIN,
    assert_all_parameters_learn,
    assert_equal,
    count,
    count_network,
    randomize,
    unequal_samples,
)

from mmba2m.models.attentions import ECA


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('size', [(7, 4), (1, 1)])
@pytest.mark.parametrize('k', [1, 3, 5])
def test_equals_the_equation(k, size, n, training):
    module = randomize(ECA(8, kernel_size=k)).train(training)
    x = unequal_samples(n, 8, *size)
    z = x.flatten(2).mean(2)
    mixed = torch.zeros_like(z)
    for c in range(8):
        for j, weight in enumerate(module.conv.weight.flatten()):
            neighbour = c + j - k // 2
            if 0 <= neighbour < 8:
                mixed[:, c] += weight * z[:, neighbour]
    assert_equal(module(x), x * mixed.sigmoid()[..., None, None])


@pytest.mark.parametrize('kernel_size', [None, 3])
@pytest.mark.parametrize('c', [16, 96, 256])
def test_equals_timm(c, kernel_size):
    timm = pytest.importorskip('timm.layers')
    module = randomize(ECA(c, kernel_size))
    other = timm.EcaModule(c if kernel_size is None else None, 3).double()
    other.load_state_dict(module.state_dict())
    x = unequal_samples(3, c, 5, 6)
    assert_equal(module(x), other(x))


def test_number_of_parameters():
    rule = {64: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 2048: 7}
    for c, k in rule.items():
        assert count(ECA(c)) == k
    for depth, added in ((50, 86), (101, 171)):
        total = count_network(depth, lambda i, w: ECA(w[-1]))
        assert total - PLAIN[depth] == added
    for depth, added in ((50, 80), (101, 165)):
        total = count_network(
            depth, lambda i, w: ECA(w[-1], kernel_size=(3, 5, 5, 7)[i])
        )
        assert total - PLAIN[depth] == added


def test_all_parameters_learn():
    module = randomize(ECA(8))
    assert_all_parameters_learn(module, unequal_samples(3, 8, 5, 6))


def test_autocast():
    module, x = ECA(8), torch.randn(2, 8, 5, 6)
    with torch.autocast('cpu', torch.bfloat16):
        result = module(x.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), module(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize('kernel_size', [0, 2, -3])
def test_kernel_size_must_be_odd(kernel_size):
    with pytest.raises(ValueError, match=f'of ECA .* got {kernel_size}'):
        ECA(8, kernel_size=kernel_size)
