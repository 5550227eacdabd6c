"""What each rank does in the tests of the global batch.

A scenario is run by every rank on its part of the batch, and by the test in
one process on all of it. It is a function of module or network, the samples
and the upstream gradient; it returns what must agree.
"""

import contextlib
from datetime import timedelta
from unittest import mock

import torch
from ba2m_cases import make_input, make_module
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mmba2m.models.attentions.ba2m import BA2M

SIZES = (1, 2, 3)


def make_frozen(**kwargs):
    """Its norms are frozen: a norm over the batch would be per rank."""
    torch.manual_seed(3)
    module = make_module(**kwargs).train()
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
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


def run_checkpointed(module, x, upstream, use_reentrant):
    """As a host's ``with_cp`` does."""
    results = run_module(
        module,
        x,
        upstream,
        lambda x: checkpoint(module, x, use_reentrant=use_reentrant),
    )
    del results['running_normalizer']  # updated twice, as batch norms are
    return results


def run_grouped(module, x, upstream):
    """The first two ranks train together, the last has one step more."""
    if not distributed.is_initialized():
        return run_module(module, x, upstream)
    # of the ranks outside, PyTorch makes a placeholder
    group = distributed.new_group([0, 1])
    module.process_group = group
    if distributed.get_rank() < 2:
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
    last = distributed.is_initialized() and (
        distributed.get_rank() == distributed.get_world_size() - 1
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


MODULE, NETWORK = make_frozen, make_network
#: name: what is built, with which arguments, and what is done with it
SCENARIOS = dict(
    plain=(MODULE, {}, run_module, {}),
    as_printed=(MODULE, dict(scale_by_batch=False), run_module, {}),
    equal=(MODULE, {}, run_module, {}),
    empty=(MODULE, {}, run_module, {}),
    nobody=(MODULE, {}, run_module, {}),
    grouped=(MODULE, {}, run_grouped, {}),
    checkpointed=(MODULE, {}, run_checkpointed, dict(use_reentrant=False)),
    reentrant=(MODULE, {}, run_checkpointed, dict(use_reentrant=True)),
    ddp=(NETWORK, {}, train_network, {}),
    accumulated=(NETWORK, {}, train_network, dict(accumulate=2)),
    local=(MODULE, dict(sync_batch=False), run_module, {}),
    alone=(MODULE, dict(inference='batch'), run_alone, {}),
    counting=(MODULE, {}, run_counting, {}),
    compiled=(MODULE, {}, run_compiled, {}),
)


def run(name, *ranks):
    """Runs a scenario on the samples of these ranks, by default of all."""
    sizes = dict(empty=(0, 2, 4), nobody=(0, 0, 0)).get(name, SIZES)
    batch = [
        torch.cat([tensor.split(sizes)[rank] for rank in ranks or range(3)])
        for tensor in make_batch(sum(sizes), name == 'equal')
    ]
    build, build_args, scenario, args = SCENARIOS[name]
    return scenario(build(**build_args), *batch, **args)


def work(rank, folder, names):
    """The whole life of a rank: all scenarios, results into a file."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=len(SIZES),
        timeout=timedelta(seconds=120),
    )
    results = {name: run(name, rank) for name in names}
    torch.save(results, f'{folder}/{rank}.pt')
    distributed.barrier()
    distributed.destroy_process_group()
