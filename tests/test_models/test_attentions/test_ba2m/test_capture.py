"""Data types, layouts, copies, exports and compilation."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from ba2m_cases import (
    assert_near,
    gradients,
    make_input,
    make_module,
    weights_of,
)
from mmengine.model import ExponentialMovingAverage

from mmba2m.models.attentions.ba2m import BA2M

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_autocast_keeps_sar_and_weights_in_float32(dtype, training):
    module = make_module(dtype=torch.float32)
    x = make_input(4, dtype=torch.float32)
    module(x)
    module.train(training)
    expected = module.sample_attention(x), weights_of(module, x), module(x)
    low = x.to(dtype).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        sar = module.sample_attention(low)
        w, y = module.weigh(sar), module(low)
    assert sar.dtype == w.dtype == torch.float32 and y.dtype == dtype
    limit = 0.02 * x.abs().max().item()
    assert_near(sar, expected[0], 0.02)
    assert_near(w, expected[1], 0.02)
    assert_near(y.float(), expected[2], limit)
    y.float().square().sum().backward()
    assert low.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize('training', [True, False])
def test_half_precision_module_keeps_the_dtype(training):
    module = make_module(dtype=torch.bfloat16)
    x = make_input(4, dtype=torch.bfloat16)
    module(x)
    y = module.train(training)(x)
    assert y.dtype == torch.bfloat16 and y.isfinite().all()
    assert module.sample_attention(x).dtype == torch.float32


def test_channels_last_gives_the_same_values():
    module, x = make_module(), make_input(h=7, w=5)
    y = module(x)
    result = module(x.contiguous(memory_format=torch.channels_last))
    assert_near(result, y)


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
        same = copy.deepcopy(module)
        for training in (False, True):
            y = same.train(training)(x)
            assert torch.equal(y, other.train(training)(x))
        assert torch.equal(same.running_normalizer, other.running_normalizer)


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ('size', 'dtype', 'training'),
    [
        (6, torch.float32, True),
        (12, torch.float64, True),
        (12, torch.float32, False),
    ],
)
@pytest.mark.filterwarnings('ignore')
def test_compiled_equals_eager(size, training, dtype):
    module = make_module(dtype=dtype)
    module(make_input(dtype=dtype))
    module.train(training)
    x = make_input(h=size, w=size, dtype=dtype).requires_grad_()
    other = copy.deepcopy(module)
    torch._dynamo.reset()
    try:
        y = torch.compile(other, backend='aot_eager')(x)
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
