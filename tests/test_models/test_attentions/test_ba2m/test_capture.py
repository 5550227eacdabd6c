"""Data types and compilation."""

import copy

import pytest
import torch
from attention_checks import assert_equal
from ba2m_cases import gradients, make_input, make_module, weights_of

pytestmark = pytest.mark.filterwarnings('ignore')


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
    assert_equal(sar, expected[0], 0.02)
    assert_equal(w, expected[1], 0.02)
    assert_equal(y.float(), expected[2], 0.02 * x.abs().max().item())
    y.float().square().sum().backward()
    for tensor in (low, *module.parameters()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize('training', [True, False])
def test_half_precision_module_keeps_the_dtype(training):
    module = make_module(dtype=torch.bfloat16)
    x = make_input(4, dtype=torch.bfloat16)
    module(x)
    y = module.train(training)(x)
    assert y.dtype == torch.bfloat16 and y.isfinite().all()
    assert module.sample_attention(x).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    ('size', 'dtype', 'training'),
    [
        (6, torch.float32, True),
        (12, torch.float64, True),
        (12, torch.float32, False),
    ],
)
def test_compiled_equals_eager(size, training, dtype):
    module = make_module(dtype=dtype)
    module(make_input(dtype=dtype))
    module.train(training)
    x = make_input(h=size, w=size, dtype=dtype).requires_grad_()
    other = copy.deepcopy(module)
    torch._dynamo.reset()
    try:
        y = torch.compile(other, backend='aot_eager', fullgraph=True)(x)
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
    actual = gradients(other, x, y, upstream)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    rtol = 200 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        actual, expected, rtol=rtol, atol=rtol * largest
    )
    normalizers = (m.running_normalizer for m in (other, module))
    torch.testing.assert_close(*normalizers)
