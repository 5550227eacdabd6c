"""Times steps in turn, says how sure their ratios are, and counts memory."""

import gc
import itertools
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from scipy.stats import binom
from torch.profiler import ProfilerActivity, profile

#: fewer do not reach 95 %, see :func:`median_interval`
MIN_ROUNDS = 6


def time_in_turn(
    steps: Sequence[Callable],
    counts: Sequence[int],
    device: torch.device,
    tolerance: float,
    max_seconds: float,
) -> list[list[float]]:
    """Times steps in rounds, A B C, B A C, C B A.

    What disturbs a machine for longer than a round meets all steps, and
    cancels in their ratios. Within a round their order is drawn, so that no
    step always meets the caches that the same other one left.

    Args:
        steps: What is timed, each warmed up; the ratios are to the first.
        counts: How often each is run in a round.
        device: Where they compute.
        tolerance: From six rounds on, they end when half the width of each
            ratio's interval is within this part of its median.
        max_seconds: Or when another would not end before; two always do.

    Returns:
        For each step its seconds, one value a round.
    """
    times = [[] for _ in steps]
    order = list(range(len(steps)))
    shuffler = random.Random(0)
    begin = time.perf_counter()
    while True:
        shuffler.shuffle(order)
        for index in order:
            seconds = time_step(steps[index], counts[index], device)
            times[index].append(seconds)
        rounds = len(times[0])
        elapsed = time.perf_counter() - begin
        if rounds >= 2 and elapsed * (rounds + 1) / rounds > max_seconds:
            return times
        if rounds >= MIN_ROUNDS:
            ratios = [compare_times(values, times[0]) for values in times]
            if all((b - a) / 2 <= tolerance * mid for mid, a, b in ratios):
                return times


def time_step(step: Callable, count: int, device: torch.device) -> float:
    """Measures the seconds of a step, as the mean of ``count`` runs."""
    _wait_for(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait_for(device)
    return (time.perf_counter() - start) / count


def _wait_for(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def compare_times(
    times: Sequence[float], baseline: Sequence[float]
) -> tuple[float, float, float]:
    """Finds the median ratio to the baseline's time of the same round."""
    pairs = zip(times, baseline, strict=True)
    return median_interval([a / b for a, b in pairs])


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Computes a median and an interval that covers the true one with 95 %.

    The interval lies between two of the sorted values, which needs no
    assumption about their distribution: of n independent values, fewer than
    k lie below the true median with the probability that a fair coin shows
    fewer than k heads in n throws. Fewer than 6 values cannot reach 95 %;
    then it is their whole range.

    Returns:
        Median, lower and upper end.
    """
    values = sorted(values)
    n = len(values)
    k = max(int(binom.ppf(0.025, n, 0.5)), 1)
    return statistics.median(values), values[k - 1], values[n - k]


def measure_peak(step: Callable, device: torch.device) -> int:
    """Measures how far a step raises what is allocated.

    It counts what PyTorch's allocator hands out: tensors, those kept for the
    backward pass, and temporaries within operators. On the CPU the
    allocator's events of one step, from the profiler, are replayed; on a GPU
    it is the allocator's own record. What a library takes past the allocator
    (oneDNN's scratch memory, cuDNN's handles) is not in it.

    Args:
        step: What is measured; run it once before, so that it allocates
            nothing for good, and have it leave no gradients.
        device: Where it computes.

    Returns:
        Bytes above what was allocated before.
    """
    if device.type == 'cuda':
        gc.collect()
        _wait_for(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        _wait_for(device)
        return torch.cuda.max_memory_allocated(device) - before
    with warnings.catch_warnings():
        # newer versions tell that a profiler forgets an earlier cycle
        warnings.filterwarnings('ignore', message='.*Profiler clears events')
        cpu = [ProfilerActivity.CPU]
        with profile(activities=cpu, profile_memory=True) as profiler:
            step()
    events = []
    pending = list(profiler.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending.extend(event.children)
        if event.tag.name == 'Allocation':  # negative: given back
            events.append((event.start_time_ns, event.extra_fields.alloc_size))
    events.sort(key=lambda event: event[0])
    return max(itertools.accumulate(size for _, size in events), default=0)
