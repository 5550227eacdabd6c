import pickle
import random

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler

from mmba2m.engine.seeded_sampler import SeededBatchSampler, set_random_state


def draw():
    return random.random(), np.random.rand(), torch.rand(2).tolist()


def seeded(**kwargs):
    sampler = DefaultSampler(range(5), shuffle=True, seed=3)
    batches = BatchSampler(sampler, batch_size=2, drop_last=False)
    return SeededBatchSampler(batches, seed=7, rank=1, **kwargs)


def test_state_is_a_function_of_the_whole_key():
    drawn = []
    for key in [(1, 2, 0), (1, 2, 1), (1, 3, 0), (2, 2, 0)] * 2:
        set_random_state(*key)
        drawn.append(draw())
    assert drawn[:4] == drawn[4:]
    for values in zip(*drawn[:4], strict=True):
        assert len({str(value) for value in values}) == 4


def test_batch_sets_the_state_where_it_is_iterated_over():
    first, second, third = seeded()
    sent = pickle.loads(pickle.dumps(second))
    assert list(first) and draw() != draw()
    before = draw()
    pickle.dumps(second), len(second)
    assert list(sent) == list(second)
    one = draw()
    assert list(second) and draw() == one != before
    set_random_state(7, 1, 2)
    assert draw() == one
    assert len(third) == 1


def test_start_leaves_out_batches_not_their_numbers():
    sampler = seeded()
    sampler.first, sampler.start = 30, 32
    (batch,) = sampler
    assert batch.key == (7, 32, 2)
    assert list(batch) == list(list(seeded())[2])
    assert len(sampler) == 3


def test_endless_shuffles_each_pass_anew():
    sampler = seeded(endless=True)
    sampler.start = 2
    batches = [next(iterator) for iterator in [iter(sampler)] * 7]
    assert [batch.key[1] for batch in batches] == [2, 3, 4, 5, 6, 7, 8]
    passes = []
    for epoch in range(3):
        one = seeded()
        one.sampler.set_epoch(epoch)
        passes += [list(batch) for batch in one]
    assert [list(batch) for batch in batches] == passes[2:9]
    assert passes[:3] != passes[3:6]
    assert not list(SeededBatchSampler([], 0, 0, endless=True))
