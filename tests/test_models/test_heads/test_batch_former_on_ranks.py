"""The global batch: three ranks against one process with all of it."""

from datetime import timedelta

import pytest
import torch
from mmengine.dist import get_world_size
from test_batch_former import make_former, make_samples
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

close = torch.testing.assert_close
EXACT = dict(rtol=0, atol=1e-10)
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


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    multiprocessing.start_processes(
        work, (str(folder),), 3, start_method='forkserver'
    )
    return [torch.load(folder / f'{rank}.pt') for rank in range(3)]


@pytest.mark.slow
def test_batch_former_on_ranks_is_as_in_one_process(results):
    for name in ('unequal', 'empty'):
        expected = run(name, 0, 1, 2)
        found = [result[name] for result in results]
        for key in ('y', 'dx'):  # each rank has its samples
            close(
                torch.cat([own[key] for own in found]), expected[key], **EXACT
            )
        for own in found:
            close(own['grads'], expected['grads'], **EXACT)
    for rank, result in enumerate(results):
        alone = run('local', rank)
        for key in ('y', 'dx'):
            close(result['local'][key], alone[key], **EXACT)
        for tensor in result['half']:
            assert tensor.isfinite().all()
        close(result['ddp'], train(0, 1, 2), **EXACT)
    assert not torch.allclose(
        results[1]['local']['y'], results[1]['unequal']['y']
    )
