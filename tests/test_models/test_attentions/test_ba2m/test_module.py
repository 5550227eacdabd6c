import copy
import random
import warnings
from functools import partial
from itertools import combinations, product

import ba2m_oracle as oracle
import pytest
import torch
from attention_checks import assert_equal
from ba2m_cases import (
    assert_equal_with_gradients,
    make_input,
    make_module,
    weights_of,
)
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

SUBSETS = [
    subset
    for size in (1, 2, 3)
    for subset in combinations(('channel', 'local', 'global'), size)
]
#: channels, reduction, height, width
SIZES = [(8, 2, 6, 6), (10, 4, 5, 7), (6, 4, 7, 4), (7, 2, 1, 1), (9, 2, 3, 2)]
SIZES += [(9, 2, 11, 10)]
GN = dict(type='GN', num_groups=1)
BN = dict(type='BN')


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('branches', SUBSETS)
@pytest.mark.parametrize(('c', 'r', 'h', 'w'), SIZES)
def test_equals_the_literal_form_with_gradients(
    c, r, h, w, branches, training
):
    module = make_module(c, r, branches=branches, inference='batch')
    module.train(training)
    x = make_input(3, c, h, w)
    y = assert_equal_with_gradients(module, x, oracle.forward)
    if training:  # normalised, no ReLU is 0 on all samples
        assert not torch.allclose(y, x), 'the weights do nothing'


@pytest.mark.parametrize('seed', range(25))
def test_drawn_modules_equal_the_literal_form(seed):
    """Any width, size and setting; in inference, each image is alone."""
    draw = random.Random(seed)
    c, n = draw.randint(1, 24), draw.randint(2, 6)
    options = dict(max_kv_size=draw.choice([None, 1, 2, 3]))
    options['scale_by_batch'] = draw.random() < 0.5
    branches, norm_cfg = draw.choice(SUBSETS), draw.choice([None, BN])
    cfg = dict(branches=branches, norm_cfg=norm_cfg, **options)
    module = make_module(c, draw.randint(1, c), **cfg)
    x = make_input(n, c, draw.randint(1, 12), draw.randint(1, 12))
    assert_equal_with_gradients(module, x, partial(oracle.forward, **options))
    mean = 1.0 if module.scale_by_batch else 1 / n
    torch.testing.assert_close(weights_of(module, x).mean().item(), mean)
    module.eval()
    alone = [module(x[i : i + 1]) for i in range(n)]
    assert_equal(torch.cat(alone), module(x))


def test_equals_the_literal_form_in_float32():
    module = make_module(dtype=torch.float32)
    x = make_input(4, dtype=torch.float32)
    expected = oracle.forward(copy.deepcopy(module).double(), x.double())
    assert_equal(module(x), expected.float(), 1e-5)


@pytest.mark.parametrize('max_kv_size', [None, 1, 4, 5])
@pytest.mark.parametrize('num_heads', [1, 2, 4])
def test_heads_and_pooling_equal_the_literal_form(num_heads, max_kv_size):
    options = dict(num_heads=num_heads, max_kv_size=max_kv_size)
    module = make_module(8, 1, **options)  # d / 2 = 4 channels attend
    x = make_input(2, h=12, w=9)  # at 6 × 5 positions
    assert_equal_with_gradients(module, x, partial(oracle.forward, **options))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('n', [2, 3, 7])
def test_equal_samples_pass_unchanged(n, dtype):
    module = make_module(dtype=dtype)
    x = make_input(1, dtype=dtype).expand(n, -1, -1, -1)
    assert torch.equal(module(x), x)


@pytest.mark.parametrize('scale_by_batch', [True, False])
@pytest.mark.parametrize('size', [(6, 6), (1, 1), (2, 1)])
def test_batch_of_one_passes_unchanged(size, scale_by_batch):
    module = make_module(scale_by_batch=scale_by_batch)
    x = make_input(1, 8, *size).requires_grad_()
    y = module(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize('norm_cfg', [BN, GN, None])
@pytest.mark.parametrize(
    'inference', ['population', 'identity', 'sample', 'batch']
)
def test_an_empty_batch_passes_as_through_a_convolution(inference, norm_cfg):
    module = make_module(norm_cfg=norm_cfg, inference=inference)
    for seen, training in product((False, True), repeat=2):
        if seen:
            module.train()(make_input())
            assert module.running_normalizer > 0
        module.train(training).zero_grad()
        before = {k: v.clone() for k, v in module.state_dict().items()}
        x = torch.zeros(0, 8, 10, 12).double().requires_grad_()
        y = module(x)
        assert y.shape == x.shape and y.dtype == x.dtype
        y.sum().backward()
        assert x.grad.shape == x.shape
        if training or inference != 'identity':
            assert all((p.grad == 0).all() for p in module.parameters())
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_samples_of_zeros():
    module = make_module().train()
    x = make_input()
    x[0] = 0
    y = module(x.requires_grad_())
    y.square().sum().backward()
    assert not y[0].any() and y[1].any() and y.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    zeros = torch.zeros_like(x)
    weights = module.weigh(module.sample_attention(zeros))
    assert torch.equal(weights, torch.ones_like(weights))


def test_large_logits_stay_finite():
    module = make_module(dtype=torch.float32)
    for name, parameter in module.named_parameters():
        if '.norm.' in name:
            parameter.data.mul_(1e4)
    x = make_input(dtype=torch.float32).requires_grad_()
    y = module(x)
    y.square().sum().backward()
    for tensor in (y, x.grad, *(p.grad for p in module.parameters())):
        assert tensor.isfinite().all()


@pytest.mark.parametrize('num_groups', [1, 2])
def test_group_norm_makes_the_sar_independent_of_the_batch(num_groups):
    norm_cfg = dict(type='GN', num_groups=num_groups)
    module = BA2M(8, 2, norm_cfg=norm_cfg, zero_init=False).double()
    x = make_input(4)
    y, sar = module(x), module.sample_attention(x)
    alone = [module.sample_attention(x[i : i + 1]) for i in range(4)]
    assert_equal(torch.cat(alone), sar)
    assert_equal(y, x * oracle.weights(sar).view(-1, 1, 1, 1))


# Its start


@pytest.mark.parametrize('branches', SUBSETS)
@pytest.mark.parametrize('norm_cfg', [BN, GN])
def test_zero_init_starts_with_weights_of_one_and_learns(branches, norm_cfg):
    module = BA2M(8, 2, branches, norm_cfg=norm_cfg, zero_init=True)
    x = make_input(dtype=torch.float32)
    y = module(x)
    assert torch.equal(y, x)
    (y * torch.randn_like(y)).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= 0.1 * parameter.grad
    assert weights_of(module, x).std() > 1e-4


@pytest.mark.parametrize(
    ('norm_cfg', 'zero_init', 'as_one'),
    [
        (GN, None, True),
        (dict(type='IN', affine=True), None, True),
        (dict(type='IN'), None, False),
        (GN, False, False),
        (BN, None, False),
        (None, None, False),
    ],
)
def test_norms_within_the_sample_start_as_one(norm_cfg, zero_init, as_one):
    cfg = dict(norm_cfg=norm_cfg, zero_init=zero_init)
    module, x = BA2M(8, 2, ('local', 'global'), **cfg), make_input().float()
    assert torch.equal(module(x), x) == as_one


# What is refused, and what is warned of


@pytest.mark.parametrize(
    'shape', [(2, 8, 4), (2, 8, 4, 4, 4), (2, 6, 4, 4), (8, 4, 4)]
)
def test_wrong_inputs_are_named(shape):
    with pytest.raises(ValueError, match=r'\(N, 8, H, W\)') as error:
        BA2M(8, 2)(torch.randn(shape))
    assert str(shape) in str(error.value)


def warnings_of(module, *inputs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for x in inputs:
            module(x)
    return [str(w.message) for w in caught if 'BA2M' in str(w.message)]


def freeze_norms(module):
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    return module


def test_weak_starts_are_warned_of_once_and_good_ones_not():
    few, many = torch.randn(2, 8, 5, 5), torch.randn(4, 8, 5, 5)
    weak = (
        (freeze_norms(BA2M(8, 2)), many, 'frozen'),
        (BA2M(8, 2), few, 'N = 2'),
    )
    for module, x, text in weak:
        (message,) = warnings_of(module, x[:0], x, x)
        assert text in message and 'norm_cfg' in message
    trained, loaded = BA2M(8, 2), BA2M(8, 2)
    assert not warnings_of(trained, many, many)
    loaded.load_state_dict(trained.state_dict())
    for module in (
        freeze_norms(loaded),
        BA2M(8, 2, branches=('local', 'global')),
        BA2M(8, 2).eval(),
        BA2M(8, 2, norm_cfg=GN),
        freeze_norms(BA2M(8, 2, norm_cfg=GN)),
    ):
        assert not warnings_of(module, few)
