"""BatchFormer: samples of a batch learn from each other, in training only.

`Hou et al., CVPR 2022 <https://arxiv.org/abs/2203.01522>`_, from the paper. A
layer of a transformer takes the batch for its sequence; one head is trained
on what goes in and on what comes out. What is deployed is the plain network.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from mmba2m.models.host_classes import extend_class, find_class
from mmba2m.registry import MODELS


class BatchFormer(BaseModule):
    """A transformer's encoder layer over the samples of a batch.

    Args:
        in_channels: Channels C of a sample.
        num_heads: Heads of the attention, a divisor of C. Defaults to 4.
        feedforward_channels: Width of the layer's MLP. Defaults to None, C.
        dropout: In [0, 1). Defaults to 0.5, the paper's.
        sync_batch: Whether the batch, in distributed training, is that of
            all ranks; all must call it then, with any number of samples.
            Gradients are exact, of the sum of their losses. Defaults to True.
        mix: Whether samples see each other; False is the control, the layer
            for each of them alone. Defaults to True.

    Raises:
        ValueError: If heads do not divide C, and in ``forward`` for an input
            that is not (N, C).
    """

    def __init__(
        self,
        in_channels: int,
        num_heads: int = 4,
        feedforward_channels: int | None = None,
        dropout: float = 0.5,
        sync_batch: bool = True,
        mix: bool = True,
    ):
        super().__init__()
        if in_channels % num_heads:
            raise ValueError(
                f'BatchFormer: num_heads={num_heads} is no divisor of the '
                f'{in_channels} channels'
            )
        width = feedforward_channels or in_channels
        self._options = (in_channels, num_heads, width, dropout)
        self.encoder = nn.TransformerEncoderLayer(*self._options)
        self.sync_batch = sync_batch
        self.mix = mix

    def init_weights(self) -> None:
        """Starts as PyTorch's layer, whatever a head does to linear ones."""
        fresh = nn.TransformerEncoderLayer(*self._options)
        self.encoder.load_state_dict(fresh.state_dict())
        super().init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) → (N, C), each sample mixed with the others."""
        if not isinstance(x, Tensor) or x.ndim != 2:
            shape = tuple(getattr(x, 'shape', ())) or type(x).__name__
            raise ValueError(
                f'BatchFormer needs features (N, C), got {shape}: pool them '
                'before, as by the neck GlobalAveragePooling'
            )
        if not self.mix:  # N sequences of one
            return self.encoder(x[None])[0]
        if not self.sync_batch or get_world_size() <= 1:
            return self.encoder(x)
        count = torch.tensor(len(x), device=x.device)
        counts = [int(number) for number in all_gather(count)]
        end = sum(counts[: get_rank() + 1])
        begin = end - len(x)
        rows = F.pad(x, (0, 0, begin, sum(counts) - end))
        # sums of gradients want float32, gloo of torch 2.1 has no bfloat16
        rows = rows.to(torch.promote_types(x.dtype, torch.float32))
        return self.encoder(all_reduce(rows).to(x.dtype))[begin:end]


@MODELS.register_module()
def BatchFormerClsHead(
    base: str | type = 'LinearClsHead', **kwargs: Any
) -> nn.Module:
    """Builds a head of MMPretrain that is trained with BatchFormer.

    ``head=dict(type='mmba2m.BatchFormerClsHead')`` over a stock config is
    enough, whose other keys stay those of the head. Its loss in training is
    that of a batch twice as large: the samples, and the mixed ones with the
    same labels.

    Args:
        base: As of :func:`AttentionBackbone`: a head for features (N, C).
            Defaults to 'LinearClsHead'.
        **kwargs: Arguments of that head, and ``batch_former``, a dict with
            those of :class:`BatchFormer`.

    Raises:
        ValueError: If there is no such head, or it does not fit.
    """
    return extend_class(find_class(base), BatchFormerClsMixin)(**kwargs)


@MODELS.register_module()
def BatchFormerBBoxHead(
    base: str | type = 'Shared2FCBBoxHead', **kwargs: Any
) -> nn.Module:
    """Builds a head for RoIs of MMDetection that is trained with BatchFormer.

    As :func:`BatchFormerClsHead`. Samples are the RoIs, behind the shared
    layers. The losses are the means of the plain RoIs' and the mixed ones'.
    Boxes are refined by the plain scores, in a cascade, too.

    Args:
        base: As of :func:`AttentionBackbone`: a ``ConvFCBBoxHead`` with
            shared layers only. Defaults to 'Shared2FCBBoxHead'.
        **kwargs: Arguments of that head, and ``batch_former``, a dict with
            those of :class:`BatchFormer`. As a rank has hundreds of RoIs, and
            the cost grows with their square, ``sync_batch`` defaults to
            False.

    Raises:
        ValueError: If there is no such head, or it does not fit.
    """
    return extend_class(find_class(base), BatchFormerBBoxMixin)(**kwargs)


class BatchFormerClsMixin:
    """What :func:`BatchFormerClsHead` puts before a head."""

    def __init__(
        self: Any, *args: Any, batch_former: dict | None = None, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        width = getattr(self, 'in_channels', None)
        if not hasattr(self, 'pre_logits') or not isinstance(width, int):
            raise ValueError(
                'BatchFormerClsHead needs a head of a classifier for features '
                f'(N, C), its base has in_channels={width!r}'
            )
        self.batch_former = BatchFormer(width, **batch_former or {})

    def loss(
        self: Any, feats: tuple, data_samples: list, **kwargs: Any
    ) -> dict[str, Tensor]:
        """The head's, in training of plain and mixed samples."""
        if self.training:
            *others, x = feats
            feats = (*others, torch.cat([x, self.batch_former(x)]))
            data_samples = [*data_samples, *data_samples]
        return super().loss(feats, data_samples, **kwargs)  # type: ignore


class BatchFormerBBoxMixin:
    """What :func:`BatchFormerBBoxHead` puts before a head."""

    def __init__(
        self: Any, *args: Any, batch_former: dict | None = None, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        branches = ('cls_convs', 'cls_fcs', 'reg_convs', 'reg_fcs')
        own = [name for name in branches if len(getattr(self, name, ()))]
        if own or not getattr(self, 'num_shared_fcs', 0):
            raise ValueError(
                'BatchFormerBBoxHead needs a ConvFCBBoxHead with shared '
                'layers only, the last a linear one; its base has '
                f'{", ".join(own) or "no shared_fcs"}'
            )
        options = dict(sync_batch=False) | (batch_former or {})
        self.batch_former = BatchFormer(self.shared_out_channels, **options)
        self._mixed = None

    def forward(self: Any, *args: Any, **kwargs: Any) -> tuple:
        """The head's; in training it keeps those of mixed RoIs for `loss`."""
        self._mixed = None  # a loss may not have been asked for
        # some samplers ask the head for losses, without gradient
        if not self.training or not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)  # type: ignore
        predictors = [getattr(self, key, None) for key in ('fc_cls', 'fc_reg')]
        features = []
        first = next(filter(None, predictors))
        with first.register_forward_pre_hook(
            lambda _, inputs: features.extend(inputs)
        ):
            outs = super().forward(*args, **kwargs)  # type: ignore
        mixed = self.batch_former(*features)
        self._mixed = [predict and predict(mixed) for predict in predictors]
        return outs

    def loss(
        self: Any, cls_score: Tensor, bbox_pred: Tensor, *args: Any, **kwargs
    ) -> dict[str, Tensor]:
        """The head's; in training the mean of plain and mixed RoIs'."""
        compute = super().loss  # type: ignore
        losses = compute(cls_score, bbox_pred, *args, **kwargs)
        mixed, self._mixed = self._mixed, None
        if mixed is not None:
            for key, value in compute(*mixed, *args, **kwargs).items():
                if 'loss' in key:  # what else there is, is of the plain ones
                    losses[key] = (losses[key] + value) / 2
        return losses
