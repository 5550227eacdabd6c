"""What each rank does in the tests of the global batch.

A scenario is run by every rank on its part of the batch, and by the test in
one process on all of it. It is a function of module or network, the samples,
the upstream gradient and whether there are ranks; it returns what must agree.
"""

import contextlib
from unittest import mock

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmba2m.models.attentions.ba2m import BA2M


def make_module(**kwargs):
    """Its norms are frozen: a norm over the batch would be per rank."""
    torch.manual_seed(3)
    module = BA2M(8, 2, **kwargs).double().train()
    for name, tensor in module.state_dict().items():
        if 'running_var' in name:
            tensor.uniform_(0.5, 2)
        elif name not in ('strength', 'running_normalizer') and (
            tensor.is_floating_point()
        ):
            tensor.normal_(std=0.6)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
    return module


def make_batch(n, equal=False):
    """Samples of unequal scale, and an upstream gradient."""
    torch.manual_seed(4)
    x = torch.randn(1 if equal else n, 8, 6, 5, dtype=torch.float64)
    x = x.repeat(n if equal else 1, 1, 1, 1)
    if not equal:
        x *= torch.linspace(0.5, 2, n, dtype=torch.float64).view(-1, 1, 1, 1)
    return x, torch.randn(x.shape, dtype=torch.float64)


def own_part(tensor, sizes, rank):
    return tensor.split(sizes)[rank].clone()


def sum_over_ranks(tensors):
    for tensor in tensors:
        if distributed.is_initialized():
            distributed.all_reduce(tensor)
    return tensors


def run_module(module, x, upstream, call=None):
    """Outputs and gradients: of x, and of the parameters over all ranks."""
    x.requires_grad_()
    y = module(x) if call is None else call(x)
    y.backward(upstream)
    grads = [parameter.grad for parameter in module.parameters()]
    return dict(
        y=y.detach(),
        dx=x.grad,
        parameters=sum_over_ranks(grads),
        running_normalizer=module.running_normalizer,
    )


def run_compiled(module, x, upstream):
    torch._dynamo.reset()
    compiled = torch.compile(module, backend='aot_eager')
    return run_module(module, x, upstream, compiled)


def run_checkpointed(module, x, upstream, use_reentrant):
    """As ``with_cp`` does."""
    results = run_module(
        module,
        x,
        upstream,
        lambda x: checkpoint(module, x, use_reentrant=use_reentrant),
    )
    del results['running_normalizer']  # updated twice, as batch norms are
    return results


def run_counting(module, x, upstream):
    """Notes the sizes of the collectives of each pass."""
    sizes = []
    original = distributed.all_reduce

    def all_reduce(tensor):
        sizes.append(tensor.numel())
        return original(tensor)

    with mock.patch.object(distributed, 'all_reduce', all_reduce):
        y = module(x.requires_grad_())
        forward = list(sizes)
        y.backward(upstream)
    return dict(forward=forward, both=sizes)


def run_alone(module, x, upstream):
    """Inference, in which the last rank takes no part."""
    module.eval()
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    last = distributed.is_initialized() and (
        rank == distributed.get_world_size() - 1
    )
    return dict(y=x if last else module(x).detach())


def make_network(**kwargs):
    torch.manual_seed(5)
    norm_cfg = dict(type='GN', num_groups=1)
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        BA2M(8, 2, norm_cfg=norm_cfg, zero_init=False, **kwargs),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        BA2M(8, 4, norm_cfg=norm_cfg, zero_init=False, **kwargs),
    ).double()


def train_network(network, x, target, accumulate=1, steps=5):
    """SGD on the mean of all samples; each step starts from new targets."""
    ranks, wrapped = 1, network
    if distributed.is_initialized():
        ranks = distributed.get_world_size()
        wrapped = DistributedDataParallel(network, broadcast_buffers=False)
    total = sum_over_ranks([torch.tensor(len(x))])[0].item()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in range(steps):
        for part in range(accumulate):
            last = part == accumulate - 1
            no_sync = contextlib.nullcontext
            if ranks > 1 and not last:
                no_sync = wrapped.no_sync
            with no_sync():
                loss = (wrapped(x + part) - target * step).square().sum()
                # averaged over ranks by DDP, this is the mean of the batch
                (loss * ranks / total).backward()
        optimizer.step()
        optimizer.zero_grad()
    return dict(state=[v.clone() for v in network.state_dict().values()])


MODULE, NETWORK = make_module, make_network
#: name: what is built, with which arguments, and what is done with it
SCENARIOS = dict(
    plain=(MODULE, {}, run_module, {}),
    as_printed=(MODULE, dict(scale_by_batch=False), run_module, {}),
    compiled=(MODULE, {}, run_compiled, {}),
    checkpointed=(MODULE, {}, run_checkpointed, dict(use_reentrant=False)),
    reentrant=(MODULE, {}, run_checkpointed, dict(use_reentrant=True)),
    ddp=(NETWORK, {}, train_network, {}),
    accumulated=(NETWORK, {}, train_network, dict(accumulate=2)),
    local=(MODULE, dict(sync_batch=False), run_module, {}),
    alone=(MODULE, dict(inference='batch'), run_alone, {}),
    counting=(MODULE, {}, run_counting, {}),
)


def run(name, x, upstream):
    build, build_args, scenario, args = SCENARIOS[name]
    return scenario(build(**build_args), x, upstream, **args)


def work(rank, folder, sizes):
    """The whole life of a rank: all scenarios, results into a file."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=len(sizes),
    )
    results = {}
    for equal in (False, True):
        batch = make_batch(sum(sizes), equal)
        for name in SCENARIOS if not equal else ['plain']:
            own = [own_part(tensor, sizes, rank) for tensor in batch]
            results['equal' if equal else name] = run(name, *own)
    torch.save(results, f'{folder}/{rank}.pt')
    distributed.barrier()
    distributed.destroy_process_group()
