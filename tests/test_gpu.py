"""What only a GPU shows, on one, without data."""

import copy
import json
import shutil

import pytest
import torch
from mmcv.ops import get_compiling_cuda_version
from tool_runs import run_process, run_tool
from torch import distributed, nn

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


def test_scaled_gradients_that_overflow_are_no_step(pair):
    network = nn.Sequential(pair[0], nn.Conv2d(64, 1, 1)).cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler('cuda', init_scale=2.0**40)
    start = [parameter.clone() for parameter in network.parameters()]
    for _ in range(32):  # the scale is halved each time
        with torch.autocast('cuda', torch.float16):
            loss = network(pair[2].cuda()).square().mean()
        before, scale = pair[0].running_normalizer.clone(), scaler.get_scale()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert before.isfinite()
        if scaler.get_scale() == scale:
            break
        assert all(map(torch.equal, network.parameters(), start))
    assert 2.0**8 < scale < 2.0**40
    assert not all(map(torch.equal, network.parameters(), start))
    assert all(p.isfinite().all() for p in network.parameters())


def test_ranks_of_nccl_are_one_batch(tmp_path):
    ranks = min(torch.cuda.device_count(), 2)
    torch.multiprocessing.spawn(_weigh, (ranks, tmp_path), ranks)
    one = _run_on(_make_frozen(), slice(None))
    sizes = [2, 6] if ranks == 2 else [8]
    parts = [torch.load(tmp_path / f'{rank}.pth') for rank in range(ranks)]
    assert [len(y) for y, _ in parts] == sizes
    for both, expected in zip(zip(*parts, strict=True), one, strict=True):
        torch.testing.assert_close(torch.cat(both), expected)


def _weigh(rank, ranks, folder):
    torch.cuda.set_device(rank)
    file = f'file://{folder}/meeting'
    distributed.init_process_group(
        'nccl', init_method=file, rank=rank, world_size=ranks
    )
    part = slice(0, 2) if rank == 0 else slice(2, None)
    part = part if ranks == 2 else slice(None)
    torch.save(_run_on(_make_frozen(), part), folder / f'{rank}.pth')
    distributed.destroy_process_group()


def _make_frozen():
    """Its norms are frozen: a norm over the batch would be per rank."""
    torch.manual_seed(0)
    module = BA2M(64, reduction=4).cuda().eval()
    module.training = True
    return module


def _run_on(module, part):
    """Outputs and gradients of some samples of a batch."""
    torch.manual_seed(1)
    x, upstream = draw(), draw()
    x = x[part].cuda().requires_grad_()
    y = module(x)
    y.backward(upstream[part].cuda())
    return y.detach().cpu(), x.grad.cpu()


@pytest.mark.slow
def test_a_resumed_training_is_the_whole_one(shapes, tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    whole, parted = tmp_path / 'whole', tmp_path / 'parted'
    args = ['configs/demo/ba2m-resnet18_shapes.py', '--work-dir']
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    options += ['randomness.seed=0', 'randomness.deterministic=True']
    env = dict(SHAPES_ROOT=str(shapes))
    run_process('train.py', *args, whole, *options, env=env)
    parted.mkdir()
    shutil.copy(whole / 'epoch_1.pth', parted)
    run_process('train.py', *args, parted, '--resume', *options, env=env)
    weights = [
        torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict']
        for folder in (whole, parted)
    ]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.slow
@pytest.mark.skipif(
    get_compiling_cuda_version() == 'not available',
    reason="mmcv's operators are not built for a GPU",
)
def test_the_demo_learns(tmp_path):
    pytest.importorskip('mmdet')
    data = tmp_path / 'shapes'
    run_tool('dataset_converters/make_shapes.py', data)
    run_process(
        'train.py',
        'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py',
        '--work-dir',
        tmp_path / 'run',
        env=dict(SHAPES_ROOT=str(data)),
    )
    log = next((tmp_path / 'run').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    last = [line for line in lines if 'coco/bbox_mAP_50' in line][-1]
    assert last['coco/bbox_mAP_50'] >= 0.5
