"""What modules start as, and what single modules hold beside their equation."""

import pytest
import torch
from attention_checks import (
    assert_equal,
    initialise_as_hosts_do,
    randomize,
    unequal_samples,
)
from mmengine.model import kaiming_init
from test_equations import scale_channels, se
from torch import nn

from mmba2m.models.attentions import (
    BAM,
    CBAM,
    ECA,
    GC,
    GE,
    SAAM,
    SGE,
    SK,
    SRM,
    BridgeAttention,
)

GN = dict(type='GN', num_groups=1)


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
    if again:
        for module in (cbam, ge):
            convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
            for conv in convs:
                kaiming_init(conv, bias=1)
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
    module = randomize(cls(16, norm_cfg=norm_cfg))
    x = unequal_samples(1, 16, 3, 3)
    assert torch.equal(module.train()(x), module.eval()(x))


@pytest.mark.parametrize('version', [1, 2])
def test_norm_without_batch_in_bridge_attention(version):
    module = BridgeAttention((4, 16), version, reduction=2, norm_cfg=GN)
    features = [unequal_samples(3, width, 5, 6) for width in (4, 16)]
    alone = [x[1:2] for x in features]
    assert_equal(module.double()(alone), module(features)[1:2])


@pytest.mark.parametrize('size', [(5, 6), (1, 1)])
@pytest.mark.parametrize('cls', [SGE, SRM])
def test_gradient_of_a_constant_map(cls, size):
    module = randomize(cls(64))
    x = torch.ones(2, 64, *size, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.isfinite().all()


def test_steep_scores_of_saam_pick_a_pixel():
    module = SAAM(2, reduction=1).double()
    x = unequal_samples(3, 2, 5, 6)
    with torch.no_grad():
        module.score.weight.view(-1)[0] = 1e9  # by the first channel
    flat = x.flatten(2)
    picked = flat[torch.arange(3), :, flat[:, 0].argmax(1)]
    assert_equal(module.squeeze(x)[..., 0, 0], picked)


def test_weights_of_sk_sum_to_one():
    module = randomize(SK(8, 8, groups=4, reduction=2)).eval()
    x = unequal_samples(3, 8, 5, 5)
    u2 = module.conv(x)
    assert_equal(module([x, u2]), u2)


def test_sge_keeps_channels_last():
    module = randomize(SGE(8, groups=2))
    x = unequal_samples(3, 8, 5, 6)
    result = module(x.to(memory_format=torch.channels_last))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_equal(result, module(x))


def test_srm_takes_a_variance_beyond_half_precision():
    x = torch.tensor([-1000.0, 1000.0]).view(1, 1, 1, 2).half()
    torch.testing.assert_close(
        SRM.pool_style(x), torch.tensor([[[0, 2e6**0.5]]])
    )


def test_the_kernel_of_eca_grows_with_the_channels():
    for c, k in {64: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 2048: 7}.items():
        assert ECA(c).conv.kernel_size == (k,)
    assert CBAM(16).norm.norm.momentum == 0.01  # as the authors have it
