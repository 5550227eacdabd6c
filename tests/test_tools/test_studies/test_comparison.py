import math

import numpy as np
import pytest
from scipy import stats


@pytest.fixture
def comparison(study_tools):
    return study_tools['comparison']


def test_summary_is_mean_and_deviation_of_the_sample(comparison):
    mean, deviation = comparison.summarise([1.0, 2.0, 6.0])
    assert mean == 3
    # (4 + 1 + 9) / 2
    assert deviation == pytest.approx(math.sqrt(7))
    assert comparison.summarise([5.0]) == (5, None)


def test_difference_by_hand(comparison):
    # differences 1, 2 and 3: mean 2, deviation 1; t = 4.3027 for 2 degrees
    values, reference = {0: 5.0, 1: 8.0, 2: 1.0}, {2: -2.0, 0: 4.0, 1: 6.0}
    mean, half, count = comparison.compare(values, reference)
    assert (mean, count) == (2, 3)
    assert half == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


def test_interval_is_that_of_scipys_paired_test(comparison):
    generator = np.random.default_rng(0)
    one, two = generator.normal(80, 1, (2, 5))
    interval = stats.ttest_rel(one, two).confidence_interval(0.95)
    mean, half, count = comparison.compare(
        dict(enumerate(one)), dict(enumerate(two))
    )
    assert count == 5
    assert mean - half == pytest.approx(interval.low, abs=1e-12)
    assert mean + half == pytest.approx(interval.high, abs=1e-12)


def test_only_seeds_of_both_count(comparison):
    values, reference = {0: 1.0, 1: 5.0, 3: 9.0}, {1: 3.0, 3: 3.0, 4: 100.0}
    mean, half, count = comparison.compare(values, reference)
    assert (mean, count) == (4, 2)
    # differences 2 and 6, t = 12.7062 for one degree
    assert half == pytest.approx(12.706205 * 2, abs=1e-5)
    assert comparison.compare({0: 2.5}, {0: 2.0}) == (0.5, None, 1)
    assert comparison.compare({0: 1.0}, {1: 1.0}) is None
    assert comparison.compare({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})[1] == 0
