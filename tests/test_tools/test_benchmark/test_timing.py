import itertools

import pytest
import torch

from mmba2m.checkpoints.benchmark import timing

CPU = torch.device('cpu')


@pytest.mark.parametrize('n', range(1, 12))
def test_the_interval_covers_the_median_as_often_as_it_says(n):
    """Every way that n values can lie around a median of 0."""
    covered = total = 0
    for signs in itertools.product((-1, 1), repeat=n):
        values = [sign * (i + 1) for i, sign in enumerate(signs)]
        _, low, high = timing.median_interval(values)
        total += 1
        covered += low <= 0 <= high
    # of fewer than 6, all but the cases where all lie on one side
    assert covered == total - 2 if n < 6 else covered / total >= 0.95


@pytest.mark.parametrize(
    ('n', 'k'), [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (30, 10)]
)
def test_the_interval_is_no_wider_than_the_sign_test_says(n, k):
    """By the table of the sign test, 5 % two-sided."""
    _, low, high = timing.median_interval(range(1, n + 1))
    assert (low, high) == (k, n + 1 - k)


def test_median_and_interval_of_known_values():
    values = [9.0, 1.0, 2.0, 8.0, 4.0, 3.0]
    assert timing.median_interval(values) == (3.5, 1.0, 9.0)
    assert timing.spread([4.0] * 7) == 0
    assert timing.spread(list(range(1, 10))) == 3 / 5


def test_ratios_are_of_the_same_round():
    assert timing.paired_ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def fake_clock(monkeypatch, seconds):
    """A machine on which each step takes what ``seconds`` says."""
    now = [0.0]
    runs = []

    def step(name):
        def run():
            runs.append(name)
            now[0] += seconds(name, len(runs))

        return run

    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
    return step, runs


def test_steps_take_turns_until_the_ratio_is_known(monkeypatch):
    # the machine slows down all the time: ratios do not see it
    step, runs = fake_clock(
        monkeypatch, lambda name, i: {'a': 1, 'b': 2}[name] * (1 + i / 1e4)
    )
    times = timing.time_in_turn(
        {'a': step('a'), 'b': step('b')},
        CPU,
        {'a': 3, 'b': 1},
        tolerance=0.01,
        max_seconds=1e9,
    )
    assert [len(times['a']), len(times['b'])] == [6, 6]
    ratios = timing.paired_ratios(times['b'], times['a'])
    assert ratios == pytest.approx([2] * 6, rel=1e-3)
    rounds = [runs[i : i + 4] for i in range(0, len(runs), 4)]
    assert all(sorted(names) == ['a', 'a', 'a', 'b'] for names in rounds)
    assert len({tuple(names) for names in rounds}) == 2


def test_rounds_end_with_the_time(monkeypatch):
    # never sure: every other ratio is far off
    step, runs = fake_clock(
        monkeypatch, lambda name, i: 1 + 9 * (name == 'b' and i % 3)
    )
    steps = {'a': step('a'), 'b': step('b')}
    timing.time_in_turn(
        steps, CPU, {'a': 1, 'b': 1}, tolerance=0, max_seconds=0
    )
    assert len(runs) == 2 * 2
    runs.clear()
    timing.time_in_turn(
        steps, CPU, {'a': 1, 'b': 1}, tolerance=0, max_seconds=200
    )
    assert len(runs) >= 2 * 10
