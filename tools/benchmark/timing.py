"""Times several steps in turn, and says how sure their ratios are."""

import math
import random
import statistics
import time

import torch


def time_in_turn(
    steps,
    device,
    counts,
    tolerance=0.01,
    min_rounds=6,
    max_seconds=120,
):
    """Times steps in rounds, A B C, B A C, C B A.

    What disturbs a machine for longer than a round meets all steps, and
    cancels in their ratios. Within a round their order is drawn, so that no
    step always meets the caches that the same other one left.

    Rounds end when the interval of every ratio to the first step, see
    :func:`median_interval`, is within ``tolerance`` of its median, or when
    another round would not end before ``max_seconds``.

    Args:
        steps (dict[str, Callable]): What is timed, by name, each warmed up;
            the ratios are to the first.
        device (torch.device): Where they compute.
        counts (dict[str, int]): How often each is run in a round.
        tolerance (float): Half the width of the interval, as a part of the
            median. Defaults to 0.01.
        min_rounds (int): Rounds before the tolerance may end them; the
            interval of fewer than 6 has less than 95 %. Defaults to 6.
        max_seconds (float): Time for all rounds; two are always done.
            Defaults to 120.

    Returns:
        dict[str, list[float]]: Seconds per step and round.
    """
    names = list(steps)
    times = {name: [] for name in names}
    shuffler = random.Random(0)
    begin = time.perf_counter()
    rounds = 0
    while True:
        for name in shuffler.sample(names, len(names)):
            times[name].append(time_step(steps[name], counts[name], device))
        rounds += 1
        elapsed = time.perf_counter() - begin
        if rounds >= 2 and elapsed * (rounds + 1) / rounds > max_seconds:
            return times
        if rounds >= min_rounds and all(
            spread(paired_ratios(times[name], times[names[0]])) <= tolerance
            for name in names
        ):
            return times


def time_step(step, count, device):
    """Times ``count`` runs of a step.

    On a GPU the clock is the GPU's own (events), so that what is timed is
    the queue as training fills it.

    Args:
        step (Callable): What is timed.
        count (int): How often it is run.
        device (torch.device): Where it computes.

    Returns:
        float: Seconds per run.
    """
    if device.type == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / count
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def paired_ratios(times, baseline):
    """Divides each round's time by the baseline's of the same round.

    Args:
        times (Sequence[float]): One per round.
        baseline (Sequence[float]): One per round.

    Returns:
        list[float]: One ratio per round.
    """
    return [a / b for a, b in zip(times, baseline, strict=True)]


def median_interval(values, confidence=0.95):
    """Computes a median and an interval that covers the true one.

    The interval is between two of the sorted values, which needs no
    assumption about their distribution: of n independent values, fewer than
    k lie below the true median with the probability that a fair coin shows
    fewer than k heads in n throws. Fewer than 6 values cannot reach 95 %;
    then it is their whole range.

    Args:
        values (Sequence[float]): At least one.
        confidence (float): Probability to cover it. Defaults to 0.95.

    Returns:
        tuple[float, float, float]: Median, lower and upper end.
    """
    values = sorted(values)
    n = len(values)
    outside = (1 - confidence) / 2
    k, below = 0, 0.5**n  # P(no value lies below)
    while below <= outside and k < (n - 1) // 2:
        k += 1
        below += math.comb(n, k) * 0.5**n
    k -= below > outside and k > 0
    return statistics.median(values), values[k], values[n - 1 - k]


def spread(values):
    """Half the width of the interval of a median, as a part of it.

    Args:
        values (Sequence[float]): At least one, positive.

    Returns:
        float: 0 where all values are equal.
    """
    median, low, high = median_interval(values)
    return (high - low) / 2 / median
