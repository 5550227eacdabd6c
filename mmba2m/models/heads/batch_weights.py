"""Weights of the losses of samples, from what the whole batch shows."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmba2m.models.attentions.arguments import reduce_channels
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.attentions.ba2m.batch_softmax import batch_softmax
from mmba2m.models.attentions.ba2m.branches import LocalSpatialAttention
from mmba2m.models.attentions.norm import BranchNorm


class SampleScores(nn.Module):
    """A score a sample, of BA²M's three branches: (N, C, H, W) → (N,).

    It is ``sigmoid(BN(SAR))``. Means of whole maps, the SARs (Eq. 9) of a
    batch differ little, with a standard deviation of some 0.05; the norm
    spreads them. This is no :class:`BA2M`: it scales no feature.

    Args:
        in_channels: C.
        reduction: R, as of BA²M.
    """

    _sigmoid = staticmethod(BA2M._sigmoid)

    def __init__(self, in_channels: int, reduction: int):
        super().__init__()
        ba2m = BA2M(in_channels, reduction)
        self.channel = ba2m.channel
        self.local_spatial = ba2m.local_spatial
        self.global_spatial = ba2m.global_spatial
        self.norm = BranchNorm(dict(type='BN'), 1, pooled=True, last=True)

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores between 0 and 1, float32 at least."""
        sar = BA2M.sample_attention(cast(BA2M, self), x)
        return self.norm(sar.view(-1, 1, 1, 1)).flatten().sigmoid()


class PositionScores(LocalSpatialAttention):
    """BA²M's local branch (Eq. 7), a score a position: (N, H·W).

    Args:
        in_channels: C.
        reduction: R, as of BA²M.
    """

    def __init__(self, in_channels: int, reduction: int):
        mid_channels = reduce_channels(self, in_channels, reduction)
        super().__init__(in_channels, mid_channels, dict(type='BN'))

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores between 0 and 1, float32 at least."""
        return BA2M._sigmoid(super().forward(x))


class BatchWeights(nn.Module):
    """Weights of n samples, ``n · softmax(log(bound) · score)``.

    The mean is 1, and as scores lie between 0 and 1, each weight lies between
    1/bound and bound. Features are read without gradient: only the scores
    learn from the weights.

    Args:
        scores: What gives the scores, between 0 and 1, of a feature map.
        bound: Above 1. Defaults to 4.
        entropy: Factor λ ≥ 0 of the penalty, the mean of w·log w, which is
            the log of n less the entropy of w/n. Without the bound,
            ``w ∝ exp(∓loss / λ)`` were best, if the loss is a mean of the n
            samples, too. Defaults to 1.
        hard: Whether the scores ascend the loss, so that hard samples get
            weight; if not, they descend as all parameters do, and easy ones
            get it. Defaults to False.
        shuffle: Whether the losses get each other's weights, by chance. The
            scores learn as without, so this control has weights of the same
            distribution and no content. Defaults to False.
        sync_batch: Whether, in distributed training, the batch is that of
            all ranks. Defaults to True.

    Raises:
        ValueError: For arguments out of range.
    """

    def __init__(
        self,
        scores: nn.Module,
        bound: float = 4.0,
        entropy: float = 1.0,
        hard: bool = False,
        shuffle: bool = False,
        sync_batch: bool = True,
    ):
        super().__init__()
        if not 1 < bound < math.inf:
            raise ValueError(f'bound must be above 1, got {bound}')
        if not 0 <= entropy < math.inf:
            raise ValueError(f'entropy must be 0 or positive, got {entropy}')
        self.scores = scores
        self.bound = bound
        self.entropy = entropy
        self.hard = hard
        self.shuffle = shuffle
        self.sync_batch = sync_batch

    def forward(
        self, maps: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Weighs all samples of all maps, as one batch.

        Returns:
            The weights, of the scores' shapes; and what is added to the
            losses: the penalty as ``loss_batch_weights``, and the standard
            deviation of the weights, for the log.
        """
        scores = [self.scores(x.detach()) for x in maps]
        logits = torch.cat([score.flatten() for score in scores])
        weights, _ = batch_softmax(
            logits * math.log(self.bound), sync=self.sync_batch
        )
        n = max(len(weights), 1)
        penalty = self.entropy * (weights * weights.log()).sum() / n
        values = weights.detach()
        spread = (values - 1).square().sum().div(n).sqrt()
        change = weights - values  # 0, with the gradient
        if self.shuffle:
            values = values[torch.randperm(len(values), device=values.device)]
        parts = (values - change if self.hard else values + change).split(
            [score.numel() for score in scores]
        )
        return (
            [w.view_as(s) for w, s in zip(parts, scores, strict=True)],
            dict(loss_batch_weights=penalty, batch_weights_std=spread),
        )


_NOTHING: Any = ((), {})  # weights, and what is added to the losses


class _WeightedMixin:
    """What weighted heads share: weights from ``forward`` to the loss."""

    make_scores: type[nn.Module]

    def __init__(
        self, *args: Any, batch_weights: dict | None = None, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        options = dict(batch_weights or {})
        reduction = options.pop('reduction', 16)
        channels: Any = self.in_channels  # type: ignore[attr-defined]
        if not isinstance(channels, int):  # as of SSDHead, by level
            raise ValueError(
                'batch_weights needs a head with one in_channels, its base '
                f'has {channels!r}'
            )
        self.batch_weights = BatchWeights(
            self.make_scores(channels, reduction), **options
        )
        self._found: Any = _NOTHING

    def _weigh(self, maps):
        self._found = _NOTHING
        # some samplers ask the head for losses, without gradient
        if self.training and torch.is_grad_enabled():  # type: ignore
            self._found = self.batch_weights(maps)

    def _take(self):
        found, self._found = self._found, _NOTHING
        return found


class WeightedRoIsMixin(_WeightedMixin):
    """Scales the losses of each RoI; before a ``BBoxHead``."""

    make_scores = SampleScores

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Predicts as the host does; in training also weighs the RoIs."""
        self._weigh([x])
        return super().forward(x, *args, **kwargs)  # type: ignore[misc]

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """The host's losses of the weighted RoIs, and the penalty."""
        found, added = self._take()
        for weights in found:
            label_weights = label_weights * weights
            bbox_weights = bbox_weights * weights[:, None]
        targets = labels, label_weights, bbox_targets, bbox_weights
        host: Any = super()
        losses = host.loss(cls_score, bbox_pred, rois, *targets, **kwargs)
        return losses | added


class WeightedAnchorsMixin(_WeightedMixin):
    """Scales the losses of the anchors of each position."""

    make_scores = PositionScores

    def forward(self, x: Sequence[Tensor]) -> Any:
        """Predicts as the host does; in training also weighs positions."""
        self._weigh(x)
        return super().forward(x)  # type: ignore[misc]

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple:
        """The host's targets, their weights scaled level by level."""
        host: Any = super()
        labels, label_weights, targets, box_weights, *rest = host.get_targets(
            *args, **kwargs
        )
        for level, weights in enumerate(self._found[0]):
            anchors = label_weights[level].size(1) // weights.size(1)
            weights = weights.repeat_interleave(anchors, 1)
            label_weights[level] = label_weights[level] * weights
            box_weights[level] = box_weights[level] * weights[..., None]
        return labels, label_weights, targets, box_weights, *rest

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict:
        """The host's losses of the weighted anchors, and the penalty."""
        losses = super().loss_by_feat(*args, **kwargs)  # type: ignore[misc]
        return losses | self._take()[1]
