"""Which operators the time of a module goes into."""

import statistics
from collections import Counter, defaultdict

import torch
from torch.profiler import ProfilerActivity, profile

from .steps import is_attention


def record_inputs(network, images):
    """Finds what the attention modules of a network get.

    Args:
        network (nn.Module): A backbone.
        images (Tensor): Shape (N, C, H, W).

    Returns:
        dict[str, tuple[nn.Module, torch.Size]]: By name: each module, and
        the shape of the map that it gets. Of modules of one class that get
        maps of one shape, the first with their number: 'layer1.0.se × 3'.

    Raises:
        ValueError: If there is none, or one that reads several maps.
    """
    modules = {n: m for n, m in network.named_modules() if is_attention(m)}
    if not modules:
        raise ValueError('the network has no attention module')
    shapes = {}

    def record(name):
        def hook(module, args):
            if not isinstance(args[0], torch.Tensor):
                raise ValueError(
                    f'{name} reads several maps, and cannot run alone'
                )
            shapes[name] = args[0].shape

        return hook

    handles = [
        module.register_forward_pre_hook(record(name))
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    kinds = {n: (type(modules[n]), shape) for n, shape in shapes.items()}
    counts = Counter(kinds.values())
    found = {}
    for name, kind in kinds.items():
        if kind in counts:
            count = counts.pop(kind)
            label = name if count == 1 else f'{name} × {count}'
            found[label] = modules[name], kind[1]
    return found


def profile_step(step, device, rounds):
    """Measures the operators of a step.

    Args:
        step (Callable): What is run, warmed up.
        device (torch.device): Where it computes.
        rounds (int): How often.

    Returns:
        dict[tuple[str, str], tuple[float, int]]: For each operator and the
        shapes of its inputs: the median over the rounds of the seconds that
        it took itself, without those it called, and how often it ran in one
        round. On a GPU, seconds of its kernels.
    """
    cuda = device.type == 'cuda'
    activities = [ProfilerActivity.CPU]
    if cuda:
        activities.append(ProfilerActivity.CUDA)
    seconds, counts = defaultdict(list), {}
    for _ in range(rounds):
        with profile(activities=activities, record_shapes=True) as profiler:
            step()
            if cuda:
                torch.cuda.synchronize(device)
        for event in profiler.key_averages(group_by_input_shape=True):
            if cuda:  # renamed in torch 2.4
                time = getattr(event, 'self_device_time_total', None)
                time = event.self_cuda_time_total if time is None else time
            else:
                time = event.self_cpu_time_total
            key = event.key, _describe_shapes(event.input_shapes)
            seconds[key].append(time / 1e6)
            counts[key] = event.count
    return {
        key: (statistics.median(times), counts[key])
        for key, times in seconds.items()
    }


def _describe_shapes(shapes):
    return ', '.join('×'.join(map(str, shape)) for shape in shapes if shape)


def format_profile(operators, rows):
    """Writes a Markdown table.

    Args:
        operators (dict): From :func:`profile_step`.
        rows (int): Operators at most; the rest is summed.

    Returns:
        str: The operators that took longest, and the sum.
    """
    ranked = sorted(operators.items(), key=lambda item: -item[1][0])
    total = sum(seconds for _, (seconds, _) in ranked)
    lines = ['| ms | operator | runs | inputs |', '| --: | :-- | --: | :-- |']
    for (name, shapes), (seconds, count) in ranked[:rows]:
        lines.append(f'| {seconds * 1e3:.2f} | {name} | {count} | {shapes} |')
    rest = ranked[rows:]
    if rest:
        seconds = sum(seconds for _, (seconds, _) in rest)
        count = sum(count for _, (_, count) in rest)
        longest = rest[0][1][0] * 1e3
        lines.append(
            f'| {seconds * 1e3:.2f} | others | {count} | '
            f'{longest:.2f} ms each at most |'
        )
    lines.append(f'| {total * 1e3:.2f} | **sum** | | |')
    return '\n'.join(lines)
