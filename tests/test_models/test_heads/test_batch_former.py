import math
from datetime import timedelta

import pytest
import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmba2m.models.heads.batch_former import BatchFormer

close = torch.testing.assert_close


def make_former(**options):
    torch.manual_seed(0)
    former = BatchFormer(8, **{'dropout': 0.0, **options}).double()
    for parameter in former.parameters():  # biases and norms start trivial
        nn.init.normal_(parameter, std=0.5)
    return former


def make_samples(n):
    """Samples of unequal scale, and an upstream gradient."""
    torch.manual_seed(1)
    x = torch.randn(n, 8) * torch.linspace(0.5, 2, n)[:, None]
    return x.double(), torch.randn(n, 8).double()


def mix_literally(former, x, num_heads):
    """The layer, sample by sample and head by head."""
    p = dict(former.encoder.named_parameters())
    projected = x @ p['self_attn.in_proj_weight'].T
    q, k, v = (projected + p['self_attn.in_proj_bias']).chunk(3, 1)
    rows = []
    for i in range(len(x)):
        heads = []
        for c in torch.arange(x.size(1)).chunk(num_heads):
            logits = torch.stack([q[i, c] @ k[j, c] for j in range(len(x))])
            weights = (logits / math.sqrt(len(c))).exp()
            weights = weights / weights.sum()
            heads.append(sum(w * v[j, c] for j, w in enumerate(weights)))
        rows.append(torch.cat(heads))
    mixed = torch.stack(rows) @ p['self_attn.out_proj.weight'].T
    x = normalize(x + mixed + p['self_attn.out_proj.bias'], p, 'norm1')
    hidden = F.relu(x @ p['linear1.weight'].T + p['linear1.bias'])
    more = hidden @ p['linear2.weight'].T + p['linear2.bias']
    return normalize(x + more, p, 'norm2')


def normalize(x, p, name):
    centred = x - x.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    x = centred / (variance + 1e-5).sqrt()
    return x * p[f'{name}.weight'] + p[f'{name}.bias']


@pytest.mark.parametrize('n', [1, 2, 5])
@pytest.mark.parametrize('options', [{}, dict(num_heads=2)])
def test_it_is_a_layer_of_a_transformer_over_the_batch(n, options):
    former = make_former(**options)
    x, upstream = make_samples(n)
    parameters = [x.requires_grad_(), *former.parameters()]
    outs = former(x), mix_literally(former, x, options.get('num_heads', 4))
    close(*outs)
    grads = [torch.autograd.grad(y, parameters, upstream) for y in outs]
    close(*grads)
    assert torch.autograd.gradcheck(former, x)


def test_the_control_takes_each_sample_alone():
    former = make_former(mix=False)
    x, _ = make_samples(3)
    alone = [mix_literally(former, x[i : i + 1], 4) for i in range(3)]
    close(former(x), torch.cat(alone))
    assert former(x[:0]).shape == (0, 8)


def test_the_layer_is_the_papers_and_starts_as_pytorchs():
    former = BatchFormer(8)
    layer = former.encoder
    assert layer.self_attn.num_heads == 4
    assert layer.linear1.out_features == 8
    rates = [layer.self_attn.dropout]
    rates += [m.p for m in layer.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5] * 4
    narrow = BatchFormer(8, feedforward_channels=5).encoder
    assert narrow.linear2.weight.shape == (8, 5)
    for parameter in layer.parameters():
        parameter.data.fill_(7)
    torch.manual_seed(3)
    former.init_weights()
    torch.manual_seed(3)
    fresh = nn.TransformerEncoderLayer(8, 4, 8, 0.5)
    for key, value in fresh.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value)


def test_mixed_precision_and_no_samples():
    former = BatchFormer(8)
    x = torch.randn(4, 8, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        y = former(x.bfloat16())
    y.float().square().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert former(x[:0]).shape == (0, 8)


@pytest.mark.parametrize(
    ('channels', 'x', 'message'),
    [
        (6, None, 'num_heads=4 is no divisor of the 6 channels'),
        (8, torch.zeros(2, 8, 3, 3), r'got \(2, 8, 3, 3\): pool them'),
        (8, [torch.zeros(2, 8)], r'\(N, C\), got list'),
    ],
)
def test_what_does_not_fit_is_named(channels, x, message):
    with pytest.raises(ValueError, match=message) as caught:
        BatchFormer(channels)(x)
    assert '\n' not in str(caught.value)


# The global batch: three ranks against one process with all of the batch

SIZES = dict(unequal=(1, 2, 3), empty=(0, 2, 4), local=(1, 2, 3))


def run(name, *ranks):
    """Outputs and gradients of the samples of these ranks."""
    former = make_former(sync_batch=name != 'local')
    sizes = SIZES[name]
    x, upstream = (
        torch.cat([tensor.split(sizes)[rank] for rank in ranks])
        for tensor in make_samples(sum(sizes))
    )
    y = former(x.requires_grad_())
    y.backward(upstream)
    grads = [parameter.grad for parameter in former.parameters()]
    if distributed.is_initialized():
        for grad in grads:
            distributed.all_reduce(grad)
    return dict(y=y.detach(), dx=x.grad, grads=grads)


def train(*ranks):
    """Steps of SGD on the mean of all samples, on ranks by DDP."""
    former = make_former()
    network = nn.Sequential(nn.Linear(8, 8).double(), former)
    sizes = SIZES['unequal']
    x, target = (
        torch.cat([tensor.split(sizes)[rank] for rank in ranks])
        for tensor in make_samples(sum(sizes))
    )
    world = get_world_size()
    wrapped = DistributedDataParallel(network) if world > 1 else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        loss = (wrapped(x) - target).square().sum() * world / sum(sizes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return list(network.state_dict().values())


def run_half(rank):
    """Mixed precision of several ranks."""
    former = make_former().float()
    x = make_samples(6)[0].float()[rank : rank + 2].requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = former(x.bfloat16())
    y.float().sum().backward()
    return y.detach(), x.grad


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        init_method=f'file://{folder}/rendezvous',
        **dict(rank=rank, world_size=3, backend='gloo'),
        timeout=timedelta(seconds=120),
    )
    results = {name: run(name, rank) for name in SIZES}
    results |= dict(ddp=train(rank), half=run_half(rank))
    torch.save(results, f'{folder}/{rank}.pt')
    distributed.barrier()


@pytest.mark.slow
def test_ranks_are_as_one_process(tmp_path):
    multiprocessing.start_processes(
        work, (str(tmp_path),), 3, start_method='forkserver'
    )
    results = [torch.load(tmp_path / f'{rank}.pt') for rank in range(3)]
    exact = dict(rtol=0, atol=1e-10)
    for name in ('unequal', 'empty'):
        expected = run(name, 0, 1, 2)
        found = [result[name] for result in results]
        for key in ('y', 'dx'):  # each rank has its samples
            close(
                torch.cat([own[key] for own in found]), expected[key], **exact
            )
        for own in found:
            close(own['grads'], expected['grads'], **exact)
    for rank, result in enumerate(results):
        alone = run('local', rank)
        for key in ('y', 'dx'):
            close(result['local'][key], alone[key], **exact)
        for tensor in result['half']:
            assert tensor.isfinite().all()
        close(result['ddp'], train(0, 1, 2), **exact)
    assert not torch.allclose(
        results[1]['local']['y'], results[1]['unequal']['y']
    )
