"""What runs of several seeds say about a difference."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

CONFIDENCE = 0.95


def summarise(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation of a sample (n - 1; None for one value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.mean(values), deviation


def compare(
    values: dict[int, float], reference: dict[int, float]
) -> tuple[float, float | None, list[float]] | None:
    """Difference of two variants that share seeds.

    Both trained with the same seeds, so the differences by seed are the
    sample: by Student's t with n - 1 degrees of freedom, their mean lies in
    the interval with 95 % confidence, if they are normally distributed.

    Args:
        values: By seed.
        reference: By seed.

    Returns:
        Mean difference over the seeds that both have, half the width of its
        interval (None for one seed), and the difference of each seed. None
        where they share no seed.
    """
    differences = [
        values[seed] - reference[seed] for seed in values if seed in reference
    ]
    if not differences:
        return None
    mean, deviation = summarise(differences)
    if deviation is None:
        return mean, None, differences
    count = len(differences)
    quantile = t.ppf((1 + CONFIDENCE) / 2, count - 1)
    half = float(quantile * deviation / math.sqrt(count))
    return mean, half, differences
