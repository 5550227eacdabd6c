"""What each rank does in the tests of the global batch.

A scenario is run by every rank on its part of the batch, and by the test in
one process on all of it. It is a function of module or network, the samples
and the upstream gradient; it returns what must agree.
"""

import contextlib
from datetime import timedelta
from functools import partial
from unittest import mock

import torch
from ba2m_cases import make_input, make_module
from mmengine.dist import get_rank, get_world_size
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.heads.batch_weights import BatchWeights, SampleScores

SIZES = (1, 2, 3)


def make_frozen(**kwargs):
    """Its norms are frozen: a norm over the batch would be per rank."""
    torch.manual_seed(3)
    module = make_module(**kwargs).eval()
    module.training = True
    return module


def make_batch(n, equal=False):
    """Samples of unequal scale, and an upstream gradient."""
    torch.manual_seed(4)
    x = make_input(n, h=6, w=5)
    if equal:
        x = x[:1].repeat(n, 1, 1, 1)
    return x, torch.randn_like(x)


def sum_over_ranks(tensors, group=None):
    for tensor in tensors:
        if distributed.is_initialized():
            distributed.all_reduce(tensor, group=group)
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
        parameters=sum_over_ranks(grads, module.process_group),
        running_normalizer=module.running_normalizer,
    )


def run_compiled(module, x, upstream):
    torch._dynamo.reset()
    compiled = torch.compile(module, backend='aot_eager')
    return run_module(module, x, upstream, compiled)


def run_checkpointed(module, x, upstream, use_reentrant=False):
    call = partial(checkpoint, module, use_reentrant=use_reentrant)
    results = run_module(module, x, upstream, call)
    del results['running_normalizer']  # updated twice, as batch norms are
    return results


def run_grouped(module, x, upstream):
    """The first two ranks train together, the last has one step more."""
    if distributed.is_initialized():
        # of the rank outside, PyTorch makes a placeholder
        module.process_group = distributed.new_group([0, 1])
    if get_rank() < 2:
        return run_module(module, x, upstream)
    module(x), module(x)
    return dict(running_normalizer=module.running_normalizer)


def run_counting(module, x, upstream):
    """Notes the sizes of the collectives of each pass."""
    sizes = []
    original = distributed.all_reduce

    def all_reduce(tensor, group):
        sizes.append(tensor.numel())
        return original(tensor, group=group)

    with mock.patch.object(distributed, 'all_reduce', all_reduce):
        y = module(x.requires_grad_())
        forward = list(sizes)
        y.backward(upstream)
    return dict(forward=forward, both=sizes)


def run_alone(module, x, upstream):
    """Inference, in which the last rank takes no part."""
    module.eval()
    last = get_rank() == len(SIZES) - 1
    return dict(y=x if last else module(x).detach())


def make_weights(**kwargs):
    torch.manual_seed(3)
    return BatchWeights(SampleScores(8, 2), 50.0, **kwargs).double().eval()


def weigh_losses(module, x, losses):
    """Loss weights, and gradients of the sum of losses and penalties."""
    (weights,), added = module([x])
    total = (weights * losses.mean((1, 2, 3))).sum()
    (total + added['loss_batch_weights'] * len(x)).backward()
    grads = [parameter.grad for parameter in module.parameters()]
    return dict(y=weights.detach(), parameters=sum_over_ranks(grads))


def make_network():
    torch.manual_seed(5)
    cfg = dict(norm_cfg=dict(type='GN', num_groups=1), zero_init=False)
    layers = []
    for reduction in (2, 4):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
        layers.append(BA2M(8, reduction, **cfg))
    return nn.Sequential(*layers).double()


def train_network(network, x, target, accumulate=1):
    """SGD on the mean of all samples; each step starts from new targets."""
    ranks, wrapped = get_world_size(), network
    if ranks > 1:
        wrapped = DistributedDataParallel(network, broadcast_buffers=False)
    total = sum_over_ranks([torch.tensor(len(x))])[0].item()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        for part in range(accumulate):
            more = ranks > 1 and part < accumulate - 1
            with wrapped.no_sync() if more else contextlib.nullcontext():
                loss = (wrapped(x + part) - target * step).square().sum()
                # averaged over ranks by DDP, this is the mean of the batch
                (loss * ranks / total).backward()
        optimizer.step()
        optimizer.zero_grad()
    return dict(state=[v.clone() for v in network.state_dict().values()])


WEIGHTED = ('weighted', 'weighted_empty', 'weighted_local')
#: what is done; with a module, if nothing else is said
SCENARIOS = dict(
    **dict.fromkeys(['plain', 'as_printed', 'equal', 'empty'], run_module),
    **dict.fromkeys(['nobody', 'local'], run_module),
    grouped=run_grouped,
    checkpointed=run_checkpointed,
    reentrant=partial(run_checkpointed, use_reentrant=True),
    ddp=train_network,
    accumulated=partial(train_network, accumulate=2),
    alone=run_alone,
    counting=run_counting,
    compiled=run_compiled,
    **dict.fromkeys(WEIGHTED, weigh_losses),
)
OPTIONS = dict(
    as_printed=dict(scale_by_batch=False),
    local=dict(sync_batch=False),
    weighted_local=dict(sync_batch=False),
    alone=dict(inference='batch'),
)
NUM_SAMPLES = dict(empty=(0, 2, 4), weighted_empty=(0, 2, 4), nobody=(0, 0, 0))
BUILDERS = dict(
    ddp=make_network,
    accumulated=make_network,
    **dict.fromkeys(WEIGHTED, make_weights),
)


def run(name, *ranks):
    """Runs a scenario on the samples of these ranks, by default of all."""
    sizes = NUM_SAMPLES.get(name, SIZES)
    batch = [
        torch.cat([tensor.split(sizes)[rank] for rank in ranks or range(3)])
        for tensor in make_batch(sum(sizes), name == 'equal')
    ]
    build = BUILDERS.get(name, make_frozen)
    return SCENARIOS[name](build(**OPTIONS.get(name, {})), *batch)


def work(rank, folder, names):
    """The whole life of a rank: all scenarios, results into a file."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        init_method=f'file://{folder}/rendezvous',
        **dict(rank=rank, world_size=len(SIZES), backend='gloo'),
        timeout=timedelta(seconds=120),
    )
    results = {name: run(name, rank) for name in names}
    torch.save(results, f'{folder}/{rank}.pt')
    distributed.barrier()
