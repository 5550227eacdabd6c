"""Balanced softmax, the usual loss for long tails; in training only."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmba2m.registry import MODELS


@MODELS.register_module()
class BalancedSoftmaxLoss(BaseModule):
    """Loss of z + log n for logits z and the frequencies n of the classes.

    `Ren et al., NeurIPS 2020 <https://arxiv.org/abs/2007.10740>`_, Eq. 4. The
    logits themselves then are those of classes that occur equally often, so
    inference stays as it is.

    Args:
        counts: Training images of each class.
        base: A softmax loss of the host. Defaults to 'CrossEntropyLoss'.
        **kwargs: Its arguments.

    Raises:
        ValueError: If a class has no images, and in ``forward`` if the logits
            are of another number of classes.
    """

    def __init__(
        self,
        counts: Sequence[int],
        base: str = 'CrossEntropyLoss',
        **kwargs: Any,
    ):
        super().__init__()
        if not counts or min(counts) <= 0:
            raise ValueError(
                f'BalancedSoftmaxLoss: counts must be positive, got {counts}'
            )
        self.loss = MODELS.build(dict(kwargs, type=base))
        log_counts = torch.tensor(counts, dtype=torch.float32).log()
        # no checkpoint has it
        self.register_buffer('log_counts', log_counts, persistent=False)

    def forward(self, cls_score: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The host's loss of (N, C) logits; what else it takes as there."""
        if cls_score.shape[1:] != self.log_counts.shape:
            raise ValueError(
                f'BalancedSoftmaxLoss: {len(self.log_counts)} counts for '
                f'logits {tuple(cls_score.shape)}'
            )
        return self.loss(cls_score + self.log_counts, *args, **kwargs)
