"""The most memory that a step holds at once."""

import gc
import warnings

import torch
from torch.profiler import ProfilerActivity, profile


def measure_peak(step, device):
    """Measures how far a step raises what is allocated.

    It counts what PyTorch's allocator hands out: tensors, those kept for the
    backward pass, and temporaries within operators, each from when it is
    taken until it is given back. On the CPU the allocator's events of one
    step, from the profiler, are replayed; on a GPU it is the allocator's own
    record. Scratch memory that a library takes past the allocator (oneDNN's,
    cuDNN's handles) is not in it.

    Args:
        step (Callable): What is measured; run it once before, so that it
            allocates nothing for good. What was there before counts as kept,
            so have it leave no gradients.
        device (torch.device): Where it computes.

    Returns:
        int: Bytes above what was allocated before.
    """
    if device.type == 'cuda':
        gc.collect()
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with warnings.catch_warnings():
        # newer versions tell that a profiler forgets an earlier cycle
        warnings.filterwarnings('ignore', message='.*Profiler clears events')
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True
        ) as profiler:
            step()
    live = peak = 0
    for size in _allocations(profiler):
        live += size
        peak = max(peak, live)
    return peak


def _allocations(profiler):
    """Lists the bytes taken (given back: negative) in order of time."""
    events = []
    pending = list(profiler.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending.extend(event.children)
        if event.tag.name == 'Allocation':
            events.append((event.start_time_ns, event.extra_fields.alloc_size))
    return [size for _, size in sorted(events, key=lambda event: event[0])]


def count_bytes(tensors):
    """Sums up the memory of tensors.

    Args:
        tensors (Iterable[Tensor]): That share no memory.

    Returns:
        int: Bytes.
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
