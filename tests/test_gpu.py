"""What only a GPU shows, on one, without data."""

import copy

import pytest
import torch

from mmba2m.models.attentions import BA2M

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA'),
    pytest.mark.filterwarnings('ignore'),
]


@pytest.fixture
def pair():
    """A module on the GPU, the same in float64 on the CPU, and its input."""
    module = BA2M(64, reduction=4)
    return module.cuda(), copy.deepcopy(module).cpu().double(), draw()


def draw():
    scales = torch.linspace(1, 3, 8).view(8, 1, 1, 1)
    return torch.randn(8, 64, 32, 32) * scales


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('layout', ['contiguous_format', 'channels_last'])
@pytest.mark.parametrize(
    ('dtype', 'autocast', 'tolerance'),
    [
        (torch.float32, None, 1e-3),
        (torch.float32, torch.bfloat16, 0.1),
        (torch.float32, torch.float16, 0.05),
        (torch.bfloat16, None, 0.2),
        (torch.float16, None, 0.05),
    ],
)
def test_it_is_what_float64_is_on_the_cpu(
    pair, training, layout, dtype, autocast, tolerance
):
    module, literal, x = pair
    for one in pair[:2]:
        one(x.to(next(one.parameters())))
        one.train(training)
    module.to(dtype)
    own = x.to('cuda', dtype, memory_format=getattr(torch, layout))
    own.requires_grad_()
    with torch.autocast('cuda', autocast, enabled=autocast is not None):
        y = module(own)
    expected = x.detach().double().requires_grad_()
    z = literal(expected)
    y.float().square().sum().div(1e3).backward()
    z.square().sum().div(1e3).backward()
    for mine, other in ((y, z), (own.grad, expected.grad)):
        difference = (mine.cpu().double() - other).abs().max()
        assert difference <= tolerance * other.abs().max()


def test_no_matrix_of_all_positions_is_stored(pair):
    module = pair[0]
    module.global_spatial.max_kv_size = None
    x = torch.randn(2, 64, 256, 256, device='cuda', requires_grad=True)
    torch.cuda.reset_peak_memory_stats()
    module(x).sum().backward()
    matrix = 2 * (128 * 128) ** 2 * 4  # bytes
    assert torch.cuda.max_memory_allocated() < matrix / 2


@pytest.mark.parametrize('training', [True, False])
def test_compiled_is_eager(pair, training):
    module, _, x = pair
    module(x.cuda())
    module.train(training)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True)
    expected = module(x.cuda())
    torch.testing.assert_close(
        compiled(x.cuda()), expected, rtol=1e-3, atol=1e-3
    )


def test_a_cuda_graph_captures_inference(pair):
    module, _, x = pair
    static = x.cuda()
    module(static)
    module.eval()
    with torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            module(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = module(static)
        static.copy_(draw())
        graph.replay()
        torch.testing.assert_close(y, module(static), rtol=1e-3, atol=1e-3)


def test_an_overflow_is_no_update(pair):
    module, _, x = pair
    module(x.cuda())
    before = module.running_normalizer.clone()
    with torch.autocast('cuda', torch.float16):
        module(x.cuda() * float('inf'))
    assert torch.equal(module.running_normalizer, before)


def test_nothing_needs_what_is_not_deterministic(pair, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    module, _, x = pair
    x = x.cuda().requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        grads = [
            torch.autograd.grad(module(x).square().mean(), x)[0]
            for _ in range(2)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*grads)
