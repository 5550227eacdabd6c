"""What modules start as, and what single ones hold beside their equation."""

import pytest
import torch
from attention_checks import (
    assert_equal,
    initialise_as_hosts_do,
    randomize,
    unequal_samples,
)
from test_equations import scale_channels, se

from mmba2m.models.attentions import (
    BAM,
    CBAM,
    GC,
    GE,
    SAAM,
    SGE,
    SRM,
    BridgeAttention,
)


@pytest.mark.parametrize(
    ('module', 'start'),
    [
        (GC(16), lambda module, x: x),
        (SRM(16), lambda module, x: x / 2),
        (SGE(16, groups=2), lambda module, x: x / (1 + torch.e**-1)),
        (SAAM(16, reduction=2), se),
        (CBAM(16), lambda module, x: scale_channels(module, x) / 2),
    ],
)
def test_starts(module, start):
    """In a network of a host, too."""
    module.double()
    x = unequal_samples(3, 16, 5, 6)
    assert_equal(module(x), start(module, x))
    if hasattr(module, 'init_weights'):
        initialise_as_hosts_do(module)
        assert not torch.allclose(module(x), start(module, x))
        module.init_weights()
        assert_equal(module(x), start(module, x))


@pytest.mark.parametrize('again', [False, True])
def test_gates_of_cbam_and_ge_start_small(again):
    cbam, ge = CBAM(64, reduction=4), GE(64, 'theta+', extent=2)
    assert cbam.norm.norm.momentum == 0.01
    if again:
        for module in (cbam, ge):
            initialise_as_hosts_do(module)
            module.init_weights()
    for conv in cbam.mlp[::2]:
        bound = conv.in_channels**-0.5
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()
    for conv in ge.excite[1::2]:
        assert 0.008 < conv.weight.std() < 0.012
        assert not conv.bias.any()
    x = torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(ge(x), x / 2, rtol=0.02, atol=0)


@pytest.mark.parametrize('norm_cfg', [None, dict(type='GN', num_groups=2)])
@pytest.mark.parametrize('cls', [BAM, CBAM, SRM])
def test_norm_is_an_option(cls, norm_cfg):
    """Without batch, a single image trains as it is tested."""
    module = randomize(cls(64, norm_cfg=norm_cfg))
    x = unequal_samples(1, 64, 3, 3)
    assert torch.equal(module.train()(x), module.eval()(x))


@pytest.mark.parametrize('version', [1, 2])
def test_norm_without_batch_in_bridge_attention(version):
    norm_cfg = dict(type='GN', num_groups=1)
    module = BridgeAttention((4, 16), version, 2, norm_cfg).double()
    features = [unequal_samples(3, width, 5, 6) for width in (4, 16)]
    alone = [x[1:2] for x in features]
    assert_equal(module(alone), module(features)[1:2])


@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
@pytest.mark.parametrize('cls', [SGE, SRM])
def test_gradient_of_a_constant_map(cls, size):
    module = randomize(cls(64))
    x = torch.ones(2, 64, *size, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.isfinite().all()


def test_srm_takes_a_variance_beyond_half_precision():
    x = torch.tensor([-1000.0, 1000.0]).view(1, 1, 1, 2).half()
    torch.testing.assert_close(
        SRM.pool_style(x), torch.tensor([[[0, 2e6**0.5]]])
    )
