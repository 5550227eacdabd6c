import itertools

import pytest
import torch

CPU = torch.device('cpu')
MIB = 2**20


@pytest.fixture
def measuring(load_tools):
    return load_tools('benchmark')['measuring']


def test_the_interval_covers_the_median_as_often_as_it_says(measuring):
    """Every way that n values can lie around a median of 0."""
    for n in range(1, 12):
        covered = 0
        for signs in itertools.product((-1, 1), repeat=n):
            values = [sign * (i + 1) for i, sign in enumerate(signs)]
            _, low, high = measuring.median_interval(values)
            covered += low <= 0 <= high
        # of fewer than 6, all but the cases where all lie on one side
        assert covered == 2**n - 2 if n < 6 else covered / 2**n >= 0.95
    # and no wider, by the table of the sign test, 5 % two-sided
    table = {6: 1, 8: 1, 9: 2, 12: 3, 15: 4, 20: 6, 30: 10}
    for n, k in table.items():
        found = measuring.median_interval(range(n, 0, -1))
        assert found == ((n + 1) / 2, k, n + 1 - k)


@pytest.fixture
def clock(measuring, monkeypatch):
    """A machine on which each step takes what a function of its run says."""
    now, runs = [0.0], []
    monkeypatch.setattr(measuring.time, 'perf_counter', lambda: now[0])

    def step(name, seconds):
        def run():
            runs.append(name)
            now[0] += seconds(len(runs))

        return run

    return step, runs


def test_steps_take_turns_until_the_ratio_is_known(measuring, clock):
    # the machine slows down all the time: ratios do not see it
    step, runs = clock
    a = step('a', lambda i: 1 + i / 1e4)
    b = step('b', lambda i: 2 + i / 5e3)
    times = measuring.time_in_turn([a, b], [3, 1], CPU, 0.01, 1e9)
    assert [len(seconds) for seconds in times] == [6, 6]
    ratios = [y / x for x, y in zip(*times, strict=True)]
    assert ratios == pytest.approx([2] * 6, rel=1e-3)
    rounds = [tuple(runs[i : i + 4]) for i in range(0, len(runs), 4)]
    assert {*rounds} == {('a', 'a', 'a', 'b'), ('b', 'a', 'a', 'a')}


@pytest.mark.parametrize(('max_seconds', 'rounds'), [(0, 2), (200, 17)])
def test_rounds_end_with_the_time(measuring, clock, max_seconds, rounds):
    # never sure: the ratio is 1 and 19 in turn
    step, runs = clock
    a = step('a', lambda i: 1)
    b = step('b', lambda i: 1 + 18 * ((i + 1) // 2 % 2))
    measuring.time_in_turn([a, b], [1, 1], CPU, 0, max_seconds)
    assert len(runs) == 2 * rounds


def test_peak_counts_what_lives_at_once(measuring):
    held, x = [torch.zeros(MIB)], torch.zeros(MIB // 4)

    def step():
        a = x + 1
        b = a + 1  # two live
        del a
        c = b + 1
        del b
        torch.cat([c, c])  # three: c, and twice its size

    def replace():  # what was there before is not counted
        held.clear()
        held.append(torch.zeros(MIB // 2))

    assert measuring.measure_peak(step, CPU) == 3 * MIB
    assert measuring.measure_peak(replace, CPU) == 2 * MIB


def test_peak_sees_the_backward_pass_and_inside_of_operators(measuring):
    x = torch.zeros(1, MIB // 4, requires_grad=True)

    def step():
        # exp keeps its output, and its gradient is as large; sin keeps exp's
        x.exp().sin().sum().backward()
        x.grad = None

    # exp(x), and: sin(exp(x)), or its gradient and that of exp(x)
    peak = measuring.measure_peak(step, CPU)
    assert 3 * MIB <= peak < 3.1 * MIB

    # an im2col of 9 values for each one is no tensor that Python sees
    image = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    conv = torch.nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)
    conv.requires_grad_(False)
    peak = measuring.measure_peak(lambda: conv(image), CPU)
    assert peak >= 9 * image.nbytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_peak_on_a_gpu(measuring):
    x = torch.zeros(MIB // 4, device='cuda')
    peak = measuring.measure_peak(lambda: (x + 1, x + 2), x.device)
    assert peak == 2 * MIB
