"""What runs of several seeds say about a difference."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t


def summarise(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation of a sample (n - 1; None for one value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.mean(values), deviation


def pool(samples: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Standard deviation within samples that are equally noisy.

    Returns:
        The root of the mean variance, weighted by the samples' degrees of
        freedom, and their sum; 0, 0 where no sample has two values.
    """
    samples = [values for values in samples if len(values) > 1]
    degrees = sum(len(values) - 1 for values in samples)
    squares = sum(
        (len(values) - 1) * statistics.variance(values) for values in samples
    )
    return math.sqrt(squares / max(degrees, 1)), degrees


def chance(deviation: float, degrees: int, seeds: int) -> float:
    """What two means of some seeds differ by in 95 % of cases without cause.

    Args:
        deviation: Of one run, with its degrees of freedom from :func:`pool`.
        degrees: Likewise.
        seeds: Of each of the two.
    """
    return float(t.ppf(0.975, degrees) * deviation * math.sqrt(2 / seeds))


def compare(
    values: dict[int, float], reference: dict[int, float]
) -> tuple[float, float | None, list[float]] | None:
    """Difference of two variants, by seed, over the seeds that both have.

    The differences are the sample: by Student's t with n - 1 degrees of
    freedom, their mean lies in the interval with 95 % confidence, if they are
    normally distributed.

    Returns:
        Mean difference, half the width of its interval (None for one seed),
        and the difference of each seed. None where they share no seed.
    """
    shared = [seed for seed in values if seed in reference]
    if not shared:
        return None
    differences = [values[seed] - reference[seed] for seed in shared]
    mean, deviation = summarise(differences)
    if deviation is None:
        return mean, None, differences
    error = deviation / math.sqrt(len(shared))
    return mean, float(t.ppf(0.975, len(shared) - 1) * error), differences
