import math

import numpy as np
import pytest
from scipy import stats


def test_summary_is_mean_and_deviation_of_the_sample(study_tools):
    summarise = study_tools['comparison'].summarise
    mean, deviation = summarise([1.0, 2.0, 6.0])
    assert mean == 3
    # (4 + 1 + 9) / 2
    assert deviation == pytest.approx(math.sqrt(7))
    assert summarise([5.0]) == (5, None)


def test_interval_is_that_of_scipys_paired_test(study_tools):
    generator = np.random.default_rng(0)
    one, two = generator.normal(80, 1, (2, 5))
    interval = stats.ttest_rel(one, two).confidence_interval(0.95)
    mean, half, differences = study_tools['comparison'].compare(
        dict(enumerate(one)), dict(enumerate(two))
    )
    assert differences == [*(one - two)]
    assert mean - half == pytest.approx(interval.low, abs=1e-12)
    assert mean + half == pytest.approx(interval.high, abs=1e-12)


def test_only_seeds_of_both_count(study_tools):
    compare = study_tools['comparison'].compare
    values, reference = {0: 1.0, 1: 5.0, 3: 9.0}, {1: 3.0, 3: 3.0, 4: 100.0}
    mean, half, differences = compare(values, reference)
    assert (mean, differences) == (4, [2, 6])
    # t = 12.7062 for one degree
    assert half == pytest.approx(12.706205 * 2, abs=1e-5)
    assert compare({0: 2.5}, {0: 2.0}) == (0.5, None, [0.5])
    assert compare({0: 1.0}, {1: 1.0}) is None
    assert compare({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})[1] == 0


def test_pooled_spread_is_that_of_scipys_test_of_equal_variances(study_tools):
    module = study_tools['comparison']
    generator = np.random.default_rng(0)
    one, two = generator.normal(80, 1, (2, 5))
    deviation, degrees = module.pool([one, two, [7.0], []])
    assert degrees == 8
    half = module.chance(deviation, degrees, 5)
    interval = stats.ttest_ind(one, two).confidence_interval(0.95)
    assert half == pytest.approx((interval.high - interval.low) / 2, abs=1e-9)
    # of unequal sizes: (2 · 1 + 1 · 8) / 3
    assert module.pool([[1, 2, 3], [0, 4]]) == (math.sqrt(10 / 3), 3)
    assert module.pool([[1.0]]) == (0, 0)
