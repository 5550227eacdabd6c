"""Batches that carry the random state with which they are loaded."""

import itertools
import random
from collections.abc import Iterable

import numpy as np
import torch


def set_random_state(*key: int) -> None:
    """Sets the generators of Python, NumPy and torch, on all devices.

    Args:
        *key: Non-negative numbers that the state is a function of.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class SeededBatch:
    """Indices of a batch that set the random state as they are iterated over.

    That is in the process that loads the samples, right before it does.
    """

    def __init__(self, indices: list, key: tuple[int, ...]):
        self.indices = indices
        self.key = key

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        set_random_state(*self.key)
        return iter(self.indices)


class SeededBatchSampler:
    """A batch sampler whose batches load the same at any time, anywhere.

    The random state of a batch follows from the iteration that trains on it,
    so neither the number of worker processes nor what they loaded before
    matters, and a run can go on in the middle.

    Args:
        batch_sampler: Picks the samples.
        seed: Seed of the run.
        rank: Rank of the process.
        endless: Whether to begin anew at the end, as iteration-based
            training does. Defaults to False.

    Attributes:
        first (int): Iteration of the first batch. Defaults to 0.
        start (int): Iteration to start from; the batches before it are not
            loaded. Defaults to 0.
    """

    def __init__(
        self,
        batch_sampler: Iterable,
        seed: int,
        rank: int,
        endless: bool = False,
    ):
        self.batch_sampler = batch_sampler
        # MMEngine's hooks look for these
        self.sampler = getattr(batch_sampler, 'sampler', None)
        self.batch_size = getattr(batch_sampler, 'batch_size', None)
        self.seed = seed
        self.rank = rank
        self.endless = endless
        self.first = 0
        self.start = 0

    def __len__(self):
        return len(self.batch_sampler)

    def __iter__(self):
        iteration = self.first
        for epoch in itertools.count():
            if self.endless and hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            begin = iteration
            for indices in self.batch_sampler:
                if iteration >= self.start:
                    # 0 is the model's, see RandomStateHook
                    key = (self.seed, iteration, 1 + self.rank)
                    yield SeededBatch(indices, key)
                iteration += 1
            if not self.endless or iteration == begin:
                return
