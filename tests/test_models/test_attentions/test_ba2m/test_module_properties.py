"""What holds for every size, type and setting, on drawn examples."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.attentions.ba2m.module import BRANCHES, INFERENCE_MODES

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
}


@st.composite
def cases(draw, dtypes=tuple(TOLERANCE), inference=INFERENCE_MODES):
    """A module in training with parameters of its own, and a batch."""
    torch.manual_seed(draw(st.integers(0, 2**31 - 1), label='seed'))
    channels = draw(st.integers(1, 24), label='C')
    norms = (None, dict(type='BN'), dict(type='GN', num_groups=1))
    module = BA2M(
        channels,
        reduction=draw(st.integers(1, channels), label='R'),
        branches=draw(
            st.sets(st.sampled_from(BRANCHES), min_size=1), label='branches'
        ),
        norm_cfg=draw(st.sampled_from(norms), label='norm_cfg'),
        max_kv_size=draw(
            st.one_of(st.none(), st.integers(1, 4)), label='max_kv_size'
        ),
        scale_by_batch=draw(st.booleans(), label='scale_by_batch'),
        inference=draw(st.sampled_from(inference), label='inference'),
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.6)
    size = [draw(st.integers(1, 12), label=name) for name in ('H', 'W')]
    n = draw(st.integers(1, 6), label='N')
    x = torch.randn(n, channels, *size) * torch.linspace(0.5, 2, n).view(
        -1, 1, 1, 1
    )
    dtype = draw(st.sampled_from(dtypes), label='dtype')
    return module.to(dtype), x.to(dtype)


def run(module, x):
    """In a copy: norms and normaliser keep what they have seen."""
    return copy.deepcopy(module)(x)


def weights(module, x):
    module = copy.deepcopy(module)
    return module.weigh(module.sample_attention(x))


def assert_near(actual, expected):
    tolerance = TOLERANCE[expected.dtype]
    torch.testing.assert_close(
        actual, expected, rtol=tolerance, atol=tolerance
    )


# the same examples each time; without limits, as machines are slow at times
checked = settings(
    derandomize=True,
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow],
)


@checked
@given(cases())
def test_weights_are_positive_with_mean_one(case):
    module, x = case
    w = weights(module, x)
    assert w.shape == (len(x),) and (w > 0).all()
    mean = 1.0 if module.scale_by_batch else 1 / len(x)
    torch.testing.assert_close(w.mean().item(), mean, rtol=1e-5, atol=0)


@checked
@given(cases(), st.randoms(use_true_random=False))
def test_a_permuted_batch_gives_permuted_outputs(case, random):
    module, x = case
    order = random.sample(range(len(x)), len(x))
    assert_near(run(module, x[order]), run(module, x)[order])


@checked
@given(cases(dtypes=(torch.float64, torch.float32)))
def test_gradients_are_finite_and_reach_every_parameter(case):
    module, x = case
    x.requires_grad_()
    module(x).square().sum().backward()
    for name, tensor in (('x', x), *module.named_parameters()):
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@checked
@given(cases())
def test_inference_and_back_change_nothing(case):
    module, x = case
    other = copy.deepcopy(module)
    other.eval()
    with torch.no_grad():
        first, second = other(x), other(x)
    assert torch.equal(first, second) and first.shape == x.shape
    other.train()
    assert torch.equal(other(x), module(x))


@checked
@given(cases(inference=('population',)))
def test_an_image_is_alone_in_inference(case):
    module, x = case
    module(x)
    module.eval()
    alone = torch.cat([module(x[i : i + 1]) for i in range(len(x))])
    assert_near(alone, module(x))
