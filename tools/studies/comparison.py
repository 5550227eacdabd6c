"""What runs of several seeds say about a difference."""

import math
import statistics

from scipy.stats import t

CONFIDENCE = 0.95


def summarise(values):
    """Mean and standard deviation of a sample.

    Args:
        values (Sequence[float]): One for each seed, at least one.

    Returns:
        tuple[float, float | None]: Mean, and standard deviation of the
        sample (n - 1), None for one value.
    """
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.mean(values), deviation


def compare(values, reference):
    """Difference of two variants that share seeds.

    Both trained with the same seeds, so the differences by seed are the
    sample: by Student's t with n - 1 degrees of freedom, their mean lies in
    the interval with 95 % confidence, if they are normally distributed.

    Args:
        values (dict[int, float]): By seed.
        reference (dict[int, float]): By seed.

    Returns:
        tuple[float, float | None, int] | None: Mean difference over the seeds
        that both have, half the width of its interval (None for one seed),
        and the number of seeds. None where they share no seed.
    """
    differences = [
        values[seed] - reference[seed] for seed in values if seed in reference
    ]
    count = len(differences)
    if not count:
        return None
    mean, deviation = summarise(differences)
    if deviation is None:
        return mean, None, count
    quantile = t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return mean, float(quantile * deviation / math.sqrt(count)), count
