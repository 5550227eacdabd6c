import copy
import inspect
import io
import math
import pickle
import warnings
from itertools import combinations

import ba2m_oracle as oracle
import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

SUBSETS = [
    subset
    for size in (1, 2, 3)
    for subset in combinations(('channel', 'local', 'global'), size)
]
#: channels, reduction, height, width; the last one takes shared_projection's
#: own gradient
SIZES = [
    (8, 2, 6, 6),
    (10, 4, 5, 7),
    (6, 4, 7, 4),
    (7, 2, 1, 1),
    (9, 2, 3, 2),
    (9, 2, 11, 10),
]


def make_module(channels=8, reduction=2, dtype=torch.float64, **kwargs):
    """A module in which no parameter and no statistic is at a special value.

    The running normaliser stays as it was: never updated.
    """
    module = BA2M(channels, reduction, **kwargs)
    for name, tensor in module.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif name not in ('strength', 'running_normalizer') and (
            tensor.is_floating_point()
        ):
            tensor.normal_(std=0.6)
    return module.to(dtype)


def make_input(n=3, c=8, h=6, w=6, dtype=torch.float64):
    """Unequal samples: each has a mean and a scale of its own."""
    x = torch.randn(n, c, h, w, dtype=dtype)
    x += torch.randn(n, c, 1, 1, dtype=dtype)
    scale = torch.linspace(0.5, 2, n, dtype=dtype)
    return x * scale.view(-1, 1, 1, 1)


def gradients(module, x, y, upstream):
    """Of x and of every parameter."""
    inputs = [x, *module.parameters()]
    return torch.autograd.grad(y, inputs, upstream)


def weights_of(module, x):
    return module.weigh(module.sample_attention(x))


# What it computes


@pytest.mark.parametrize(
    ('channels', 'expected'),
    [(256, 42606), (512, 168278), (1024, 668838), (2048, 2666822)],
)
def test_number_of_parameters(channels, expected):
    module = BA2M(channels)
    assert sum(p.numel() for p in module.parameters()) == expected


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('branches', SUBSETS)
@pytest.mark.parametrize(('c', 'r', 'h', 'w'), SIZES)
def test_equals_the_literal_form_with_gradients(
    c, r, h, w, branches, training
):
    module = make_module(c, r, branches=branches, inference='batch')
    module.train(training)
    x = make_input(3, c, h, w).requires_grad_()
    upstream = torch.randn_like(x)

    y, expected = module(x), oracle.forward(module, x)
    if training:  # normalised, no ReLU is 0 on all samples
        assert not torch.allclose(y, x), 'the weights do nothing'
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        gradients(module, x, y, upstream),
        gradients(module, x, expected, upstream),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize('branches', SUBSETS)
def test_equals_the_literal_form_in_float32(branches):
    module = make_module(branches=branches, dtype=torch.float32)
    x = make_input(4, dtype=torch.float32)
    expected = oracle.forward(copy.deepcopy(module).double(), x.double())
    torch.testing.assert_close(
        module(x), expected.float(), rtol=1e-5, atol=1e-5
    )


def test_checkpointing_changes_nothing_but_memory():
    """Nor do running statistics, of which a batch is one update."""
    saved, results = [], []
    plain = make_module().train()
    for module in (plain, copy.deepcopy(plain)):
        module.with_cp = bool(saved)
        torch.manual_seed(0)
        x = make_input(h=12, w=12).requires_grad_()
        maps = {}

        def pack(tensor, maps=maps):
            maps[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = module(x)
        saved.append(sum(maps.values()))
        grads = gradients(module, x, y, torch.ones_like(y))
        statistics = {
            name: tensor
            for name, tensor in module.named_buffers()
            if 'running' in name
        }
        results.append((y, grads, statistics))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)
    # five of six maps, (3, 4, 12, 12) each
    assert saved[0] - saved[1] >= 5 * 3 * 4 * 12 * 12


@pytest.mark.parametrize('max_kv_size', [None, 1, 2, 3])
@pytest.mark.parametrize('num_heads', [1, 2])
def test_heads_and_pooling_equal_the_literal_form(num_heads, max_kv_size):
    options = dict(num_heads=num_heads, max_kv_size=max_kv_size)
    module = make_module(**options)  # d / 2 = 2 channels attend
    x = make_input(2, h=9, w=7).requires_grad_()
    upstream = torch.randn_like(x)
    y, expected = module(x), oracle.forward(module, x, **options)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        gradients(module, x, y, upstream),
        gradients(module, x, expected, upstream),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), None])
def test_gradcheck(norm_cfg):
    module = make_module(4, 2, norm_cfg=norm_cfg)
    x = make_input(2, 4, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, *_: module(x), (x, *module.parameters())
    )


def test_softmax_as_printed_sums_to_one():
    module = make_module(scale_by_batch=False)
    x = make_input(5).requires_grad_()
    upstream = torch.randn_like(x)
    w = weights_of(module, x)
    torch.testing.assert_close(w.sum().item(), 1.0)
    y = module(x)
    expected = oracle.forward(module, x, scale_by_batch=False)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        gradients(module, x, y, upstream),
        gradients(module, x, expected, upstream),
        rtol=0,
        atol=1e-10,
    )


def test_weights_have_mean_one():
    w = weights_of(make_module(), make_input(5))
    torch.testing.assert_close(w.mean().item(), 1.0)
    assert w.std() > 1e-3


def test_permuting_the_batch_permutes_the_outputs():
    module, x = make_module(), make_input(5)
    order = torch.tensor([3, 0, 4, 2, 1])
    y = module(x)
    torch.testing.assert_close(module(x[order]), y[order], rtol=0, atol=1e-10)


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
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_all_zero_samples():
    module = BA2M(8, 2)
    x = torch.zeros(3, 8, 5, 5, requires_grad=True)
    for training in (True, False):
        y = module.train(training)(x)
        assert torch.equal(y, torch.zeros_like(x))
        y.sum().backward()
        assert x.grad.isfinite().all()
    assert 1 < module.running_normalizer < math.e


def test_large_logits_stay_finite():
    module = make_module(dtype=torch.float32)
    for name, parameter in module.named_parameters():
        if '.norm.' in name:
            parameter.data.mul_(1e4)
    x = make_input(dtype=torch.float32).requires_grad_()
    y = module(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize('branches', SUBSETS)
@pytest.mark.parametrize(
    'norm_cfg', [dict(type='BN'), dict(type='GN', num_groups=1)]
)
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
    ('norm_cfg', 'zero_init', 'starts_as_one'),
    [
        (dict(type='GN', num_groups=1), None, True),
        (dict(type='IN', affine=True), None, True),
        (dict(type='IN'), None, False),
        (dict(type='GN', num_groups=1), False, False),
        (dict(type='BN'), None, False),
        (None, None, False),
    ],
)
def test_norms_within_the_sample_start_with_weights_of_one(
    norm_cfg, zero_init, starts_as_one
):
    module = BA2M(
        8, 2, ('local', 'global'), norm_cfg=norm_cfg, zero_init=zero_init
    )
    x = make_input(dtype=torch.float32)
    assert torch.equal(module(x), x) == starts_as_one


# Inference


def test_running_normalizer_is_a_running_average():
    module = make_module(norm_cfg=None, momentum=0.3)
    expected = None
    for _ in range(4):
        x = make_input(4)
        mean = oracle.sar(module, x).exp().mean()
        expected = (
            mean if expected is None else 0.7 * expected + 0.3 * mean
        ).detach()
        module(x)
        torch.testing.assert_close(
            module.running_normalizer, expected.view(1), rtol=0, atol=1e-10
        )
    last = module.running_normalizer.clone()
    module.eval()(x)
    assert torch.equal(module.running_normalizer, last)


@pytest.mark.parametrize('scale_by_batch', [True, False])
def test_population_weights_agree_with_training(scale_by_batch):
    module = make_module(norm_cfg=None, scale_by_batch=scale_by_batch)
    x = make_input(5)
    in_training = weights_of(module, x)
    torch.testing.assert_close(weights_of(module.eval(), x), in_training)
    expected_mean = 1.0 if scale_by_batch else 1 / 5
    torch.testing.assert_close(in_training.mean().item(), expected_mean)


def test_population_weights_have_mean_one_after_training():
    module = make_module(dtype=torch.float32)
    data = make_input(64, dtype=torch.float32)
    for _ in range(20):
        for batch in data[torch.randperm(64)].split(16):
            module(batch)
    w = weights_of(module.eval(), data)
    assert w.std() > 1e-2
    assert abs(w.mean() - 1) < 1e-2


def test_population_output_is_independent_of_the_batch():
    module = make_module(dtype=torch.float32)
    x = make_input(6, dtype=torch.float32)
    module(x)
    y = module.eval()(x)
    assert not torch.allclose(y, x, atol=1e-3)
    for i in range(6):
        torch.testing.assert_close(
            module(x[i : i + 1]), y[i : i + 1], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize('scale_by_batch', [True, False])
def test_without_training_the_weights_are_one(scale_by_batch):
    module = make_module(scale_by_batch=scale_by_batch).eval()
    x = make_input().requires_grad_()
    y = module(x)
    assert torch.equal(y, x)
    for grad in gradients(module, x, y, torch.ones_like(y)):
        assert grad.isfinite().all()


def test_identity_returns_the_input_itself():
    module = make_module(inference='identity')
    x = make_input()
    assert not torch.allclose(module(x), x, atol=1e-3)
    assert module.eval()(x) is x


def test_sample_mode_multiplies_by_the_sar():
    module = make_module(inference='sample').eval()
    x = make_input()
    expected = x * oracle.sar(module, x).view(-1, 1, 1, 1)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-10)


def test_batch_mode_weighs_the_test_batch():
    module = make_module(inference='batch')
    x = make_input()
    module(x)
    before = module.running_normalizer.clone()
    module.eval()
    torch.testing.assert_close(
        module(x), oracle.forward(module, x), rtol=0, atol=1e-10
    )
    assert torch.equal(module.running_normalizer, before)


@pytest.mark.parametrize('inference', ['population', 'sample', 'batch'])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('strength', [0, 0.5])
def test_strength_moves_the_weights_towards_one(strength, training, inference):
    module = make_module(norm_cfg=None, inference=inference)
    x = make_input()
    full = weights_of(module, x)
    full = weights_of(module.train(training), x)
    module.strength.fill_(strength)
    expected = x * (1 + strength * (full - 1)).view(-1, 1, 1, 1)
    torch.testing.assert_close(module(x), expected)
    if strength == 0:
        assert torch.equal(module(x), x)


# Data types and memory formats


@pytest.mark.parametrize('training', [True, False])
def test_autocast_keeps_sar_and_weights_in_float32(training):
    module = make_module(dtype=torch.float32)
    x = make_input(4, dtype=torch.float32)
    module(x)
    module.train(training)
    expected_sar = module.sample_attention(x)
    expected = weights_of(module, x)
    with torch.autocast('cpu', torch.bfloat16):
        sar = module.sample_attention(x)
        w = module.weigh(sar)
        y = module(x)
    assert sar.dtype == w.dtype == y.dtype == torch.float32
    torch.testing.assert_close(sar, expected_sar, rtol=0, atol=0.02)
    torch.testing.assert_close(w, expected, rtol=0, atol=0.02)
    assert y.isfinite().all()


@pytest.mark.parametrize('training', [True, False])
def test_autocast_of_a_bfloat16_map(training):
    module = make_module(dtype=torch.float32)
    x = make_input(4, dtype=torch.float32)
    module(x)
    module.train(training)
    expected = module(x)
    low = x.bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = module(low)
    assert y.dtype == torch.bfloat16
    limit = 0.02 * x.abs().max().item()
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=limit)
    y.float().square().sum().backward()
    assert low.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize('training', [True, False])
def test_half_precision_module_keeps_the_dtype(training):
    module = make_module(dtype=torch.bfloat16)
    x = make_input(4, dtype=torch.bfloat16)
    module(x)
    module.train(training)
    y = module(x)
    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()
    assert module.sample_attention(x).dtype == torch.float32


def test_channels_last_gives_the_same_values():
    module, x = make_module(), make_input(h=7, w=5)
    y = module(x)
    result = module(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, y, rtol=0, atol=1e-10)


# What is refused, and what is warned of


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(in_channels=8), r'reduction=16 and in_channels=8'),
        (dict(in_channels=8, reduction=0), 'reduction=0 and in_channels=8'),
        (dict(in_channels=8, reduction=-4), 'reduction=-4'),
        (dict(in_channels=64, branches=()), r'branches .*\(\)'),
        (dict(in_channels=64, branches=('local', 'lobal')), "'lobal'"),
        (dict(in_channels=64, branches='channel'), "'channel'"),
        (dict(in_channels=64, inference='mean'), "'mean'"),
        (dict(in_channels=64, num_heads=3), 'num_heads=3 .* 2 '),
        (dict(in_channels=64, num_heads=0), 'num_heads=0'),
        (dict(in_channels=64, max_kv_size=0), 'max_kv_size .* 0'),
        (
            dict(in_channels=64, norm_cfg=dict(type='GN', num_groups=32)),
            'num_groups.* 4 pooled channels',
        ),
        (dict(in_channels=64, norm_cfg=dict(type='IN')), "'IN'"),
        (dict(in_channels=64, norm_cfg=None, zero_init=True), 'Identity'),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BA2M(**kwargs)


@pytest.mark.parametrize(
    'shape', [(2, 8, 4), (2, 8, 4, 4, 4), (2, 6, 4, 4), (8, 4, 4)]
)
@pytest.mark.parametrize('training', [True, False])
def test_wrong_inputs_are_named(shape, training):
    module = BA2M(8, 2).train(training)
    with pytest.raises(ValueError) as error:
        module(torch.randn(shape))
    assert '(N, 8, H, W)' in str(error.value)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize('num_groups', [1, 2])
def test_group_norm_makes_the_sar_independent_of_the_batch(num_groups):
    norm_cfg = dict(type='GN', num_groups=num_groups)
    module = BA2M(8, 2, norm_cfg=norm_cfg, zero_init=False)
    module.double()
    x = make_input(4)
    y = module(x)
    sar = module.sample_attention(x)
    for i in range(4):
        alone = module.sample_attention(x[i : i + 1])
        torch.testing.assert_close(alone, sar[i : i + 1], rtol=0, atol=1e-10)
    w = oracle.weights(sar).view(-1, 1, 1, 1)
    torch.testing.assert_close(y, x * w, rtol=0, atol=1e-10)
    y.square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


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


def test_frozen_initial_norms_are_warned_of_once():
    x = torch.randn(4, 8, 5, 5)
    module = freeze_norms(BA2M(8, 2))
    (message,) = warnings_of(module, x, x)
    assert 'frozen' in message
    assert 'norm_cfg' in message


def test_tiny_batches_are_warned_of_once():
    x = torch.randn(2, 8, 5, 5)
    (message,) = warnings_of(BA2M(8, 2), x, x)
    assert 'N = 2' in message
    assert 'norm_cfg' in message


def test_tiny_batches_without_a_channel_branch_are_not_warned_of():
    module = BA2M(8, 2, branches=('local', 'global'))
    assert not warnings_of(module, torch.randn(2, 8, 4, 4))


def test_good_starts_are_not_warned_of():
    few, many = torch.randn(2, 8, 5, 5), torch.randn(4, 8, 5, 5)
    gn = dict(type='GN', num_groups=1)
    assert not warnings_of(BA2M(8, 2), many, many)
    assert not warnings_of(BA2M(8, 2).eval(), few, many)
    assert not warnings_of(BA2M(8, 2, norm_cfg=gn), few)
    assert not warnings_of(freeze_norms(BA2M(8, 2, norm_cfg=gn)), few)
    trained = BA2M(8, 2)
    trained(many)
    loaded = BA2M(8, 2)
    loaded.load_state_dict(trained.state_dict())
    assert not warnings_of(freeze_norms(loaded), few)


# Copies and exports


def assert_same(module, other, x):
    for training in (False, True):
        assert torch.equal(module.train(training)(x), other.train(training)(x))
    assert torch.equal(module.running_normalizer, other.running_normalizer)


def test_copies_behave_the_same():
    module, x = make_module(dtype=torch.float32), make_input().float()
    module(x)
    module.strength.fill_(0.7)
    loaded = BA2M(8, 2)
    loaded.load_state_dict(module.state_dict())
    for other in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        loaded,
    ):
        assert_same(copy.deepcopy(module), other, x)


def test_moving_average_copies_carry_the_buffers():
    module, x = make_module(), make_input()
    ema = ExponentialMovingAverage(module)
    for _ in range(3):
        module(x)
        ema.update_parameters(module)
    normalizer = ema.module.running_normalizer
    assert torch.equal(normalizer, module.running_normalizer)
    assert not torch.equal(module.eval()(x), x)
    torch.testing.assert_close(ema.module.eval()(x), module(x))


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('inference', ['population', 'identity', 'sample'])
def test_trace_of_the_inference_graph(inference):
    module = make_module(inference=inference)
    module(make_input())
    traced = torch.jit.trace(module.eval(), make_input(2))
    for n in (2, 5):
        x = make_input(n)
        torch.testing.assert_close(traced(x), module(x))


@pytest.mark.filterwarnings('ignore')
def test_onnx_export_of_the_inference_graph():
    module = make_module(dtype=torch.float32)
    module(make_input(dtype=torch.float32))
    stream = io.BytesIO()
    # the exporter of torch 2.1; the newer one needs onnxscript
    legacy = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        legacy = dict(dynamo=False)
    try:
        torch.onnx.export(
            module.eval(),
            make_input(2, dtype=torch.float32),
            stream,
            opset_version=17,
            **legacy,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        # where onnx is not installed, that stops it behind the whole graph
        assert 'onnx is not installed' in str(error)


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.filterwarnings('ignore')
def test_compiled_equals_eager(backend, training, dtype):
    module = make_module(dtype=dtype)
    module(make_input(dtype=dtype))
    module.train(training)
    x = make_input(dtype=dtype).requires_grad_()
    other = copy.deepcopy(module)
    torch._dynamo.reset()
    try:
        y = torch.compile(other, backend=backend)(x)
    except RuntimeError as error:
        if 'not supported' in str(error):
            pytest.skip(f'torch.compile: {error}')
        raise
    expected = module(x)
    torch.testing.assert_close(y, expected)
    upstream = torch.randn_like(x)
    # a bias before a batch norm has a gradient of 0: only rounding is left,
    # that of sums as large as the largest gradient
    expected = gradients(module, x, expected, upstream)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    tolerance = 200 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        gradients(other, x, y, upstream),
        expected,
        rtol=tolerance,
        atol=tolerance * largest,
    )
    torch.testing.assert_close(
        other.running_normalizer, module.running_normalizer
    )
