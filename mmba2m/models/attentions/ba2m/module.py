"""BA²M: A Batch Aware Attention Module for Image Classification.

Paper: https://arxiv.org/abs/2103.15099. No code was published. Where the paper
leaves a choice, the docstrings say what was chosen; the deviations from its
letter are the mean-one weights (``scale_by_batch``) and the rules for
inference (``inference``).
"""

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmba2m.models.attentions.arguments import reduce_channels
from mmba2m.models.attentions.names import FEATURE_MAP_POSITIONS
from mmba2m.models.attentions.norm import (
    BranchNorm,
    check_norm_kind,
    warn_of_dead_norms,
)
from mmba2m.registry import MODELS

from .batch_softmax import batch_softmax
from .branches import (
    ChannelAttention,
    GlobalSpatialAttention,
    LocalSpatialAttention,
)
from .outer_max import mean_outer_max

BRANCHES = ('channel', 'local', 'global')
INFERENCE_MODES = ('population', 'identity', 'sample', 'batch')


@MODELS.register_module()
class BA2M(nn.Module):
    """Weights each sample of a batch by what it shows.

    Three branches attend to a feature map; their strongest activation,
    averaged, is one scalar per sample, the SAR (Eq. 9). A softmax over the
    batch turns the SARs into weights (Eqs. 10–12), which scale the samples
    (Eq. 13). **Samples mix:** in training, an output depends on the whole
    batch, and a batch of 1 passes unchanged.

    Args:
        in_channels: Channels C of the input.
        reduction: R; the branches work on d = C // R channels. The paper
            takes 16 for bottleneck networks on ImageNet, 32 on CIFAR, 4 for
            basic blocks. Defaults to 16.
        branches: Any non-empty subset of 'channel', 'local' and 'global'
            (Table IX). Defaults to all three.
        num_heads: Heads of the global branch. Defaults to 1.
        max_kv_size: The global branch pools its keys and values to at most
            this many per side, ``None`` for no limit. Defaults to 28, which
            leaves 224×224 images untouched.
        norm_cfg: Norm in the branches. Defaults to ``dict(type='BN')``; in
            the backbones of this package that freeze their norms
            (``norm_eval``) to :class:`RunningBN`, which few images do not
            mislead. Norms within the sample, as GN, only scale and shift at
            the end of a branch.
        scale_by_batch: Whether the weights are scaled by N to a mean of 1;
            False is Eq. 12 to the letter, where they sum to 1, so that
            features shrink with the batch size. Defaults to True.
        sync_batch: Whether the batch, in distributed training, is that of
            all ranks; if not, each rank weights its own samples. Defaults to
            True.
        process_group: The ranks of ``sync_batch``, as of SyncBN; an
            attribute, too, that may be set later. Defaults to None, all.
        inference: The weight in ``eval()``. Defaults to 'population'.

            - 'population': ``exp(SAR) / Z``, with a running average Z of
              training's normaliser; an output depends on its own image only.
              Until Z was updated, the weights are 1.
            - 'identity': the input is returned, nothing is computed.
            - 'sample': the SAR itself (Eq. 9).
            - 'batch': as in training, over the test batch.
        momentum: Of the running average, as in batch norm. Defaults to 0.1.
        zero_init: Whether γ of the last norm of each branch starts at 0, so
            that all weights are 1 at first and the network starts as the
            plain one. Defaults to None: for norms within the sample, as
            nothing else bounds there what the sigmoid gets.

    Attributes:
        strength (Tensor): λ in ``w ← 1 + λ(w − 1)``, 1 unless
            :class:`BA2MAnnealHook` takes it to 0.
        running_normalizer (Tensor): Z; 0 as long as it was never updated.

    Raises:
        ValueError: For arguments out of range, and in ``forward`` for an
            input that is not (N, C, H, W).
    """

    strength: Tensor
    running_normalizer: Tensor
    _abbr_ = 'ba2m'
    frozen_norm_cfg = dict(type='mmba2m.RunningBN')  # where hosts freeze norms
    positions = ('after_stage', *FEATURE_MAP_POSITIONS[:-1])

    def __init__(
        self,
        in_channels: int,
        reduction: int = 16,
        branches: Sequence[str] = BRANCHES,
        num_heads: int = 1,
        max_kv_size: int | None = 28,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (only read)
        scale_by_batch: bool = True,
        sync_batch: bool = True,
        process_group: 'torch.distributed.ProcessGroup | None' = None,
        inference: str = 'population',
        momentum: float = 0.1,
        zero_init: bool | None = None,
    ):
        super().__init__()
        mid_channels = reduce_channels(self, in_channels, reduction)
        for name, value, known in (
            ('branches', branches, BRANCHES),
            ('inference', [inference], INFERENCE_MODES),
        ):
            if not value or not set(value) <= set(known):
                raise ValueError(f'{name} must be of {known}, got {value!r}')
        if max_kv_size is not None and max_kv_size < 1:
            raise ValueError(
                f'max_kv_size must be None or positive, got {max_kv_size}'
            )
        self.in_channels = in_channels
        self.reduction = reduction
        self.scale_by_batch = scale_by_batch
        self.sync_batch = sync_batch
        self.process_group = process_group
        self.inference = inference
        self.momentum = momentum
        self.zero_init = zero_init

        widths = (in_channels, mid_channels, norm_cfg)
        self.channel = self.local_spatial = self.global_spatial = None
        if 'channel' in branches:
            self.channel = ChannelAttention(*widths)
        if 'local' in branches:
            self.local_spatial = LocalSpatialAttention(*widths)
        if 'global' in branches:
            self.global_spatial = GlobalSpatialAttention(
                *widths, num_heads, max_kv_size
            )
        self.register_buffer('strength', torch.ones(1))
        self.register_buffer('running_normalizer', torch.zeros(1))
        self._norms_checked = False
        self.init_weights()

    def init_weights(self) -> None:
        """Sets the scales of ``zero_init``, also after a host set them."""
        if self.zero_init is False:
            return
        for branch in self.children():
            norms = [m for m in branch.modules() if isinstance(m, BranchNorm)]
            last = norms[-1]
            scale = getattr(last.norm, 'weight', None)
            if scale is not None and (self.zero_init or last.within_sample):
                nn.init.zeros_(scale)
            elif self.zero_init:
                raise ValueError(
                    'zero_init needs norms with a scale, which '
                    f'{last.norm} does not have'
                )

    def forward(self, x: Tensor) -> Tensor:
        """Scales each sample: (N, C, H, W) → (N, C, H, W)."""
        if not self.training and self.inference == 'identity':
            return x
        if x.dim() != 4 or x.size(1) != self.in_channels:
            raise ValueError(
                f'BA2M needs an input (N, {self.in_channels}, H, W), '
                f'got {tuple(x.shape)}'
            )
        if self.training and not self._norms_checked and len(x):
            self._warn_of_norms(x.size(0))
        weights = self.weigh(self.sample_attention(x))  # (N,)
        return (x * weights.view(-1, 1, 1, 1)).to(x.dtype)

    def sample_attention(self, x: Tensor) -> Tensor:
        """Computes the SARs (Eq. 9), between 0 and 1: (N, C, H, W) → (N,).

        They are float32 at least.
        """
        channel, local, global_ = [
            None if branch is None else branch(x)
            for branch in (
                self.channel,
                self.local_spatial,
                self.global_spatial,
            )
        ]
        spatial = [] if local is None else [local]  # (N, 1, H, W) each
        if global_ is not None:
            size = x.shape[-2:]
            spatial.append(F.interpolate(global_, size, mode='nearest'))
        if channel is not None:
            a = self._sigmoid(channel)  # (N, C)
        if spatial:  # max and sigmoid commute; (N, H·W)
            # fewer operations backward than torch.maximum, and ties share too
            one = len(spatial) == 1
            maps = spatial[0] if one else torch.cat(spatial, 1).amax(1)
            p = self._sigmoid(maps)
        if channel is None:
            return p.mean(1)
        return mean_outer_max(a, p) if spatial else a.mean(1)

    def weigh(self, sar: Tensor) -> Tensor:
        """Turns SARs (N,) into weights (N,): Eqs. 10–12, or ``inference``."""
        if self.training or self.inference == 'batch':
            weights = self._weigh_batch(sar)
        elif self.inference == 'sample':
            weights = sar
        else:
            z = self.running_normalizer.to(sar.dtype)
            unknown = z == 0
            # a division by 0 would reach the gradient all the same
            weights = (sar.exp() / (z + unknown)).masked_fill(unknown, 1)
        return torch.lerp(
            torch.ones_like(weights), weights, self.strength.to(sar.dtype)
        )

    def _weigh_batch(self, sar):
        weights, normalizer = batch_softmax(
            sar,
            self.scale_by_batch,
            # no other rank may be at work in inference
            sync=self.training and self.sync_batch,
            group=self.process_group,
        )
        if self.training:
            self._update_running_normalizer(normalizer)
        return weights

    @torch.no_grad()
    def _update_running_normalizer(self, normalizer):
        running = self.running_normalizer
        new = normalizer.to(running.dtype)
        # that of an empty batch is 0, of an overflow NaN: no update
        new = torch.where(new > 0, new, running)
        # the first is taken as it is
        torch.where(running > 0, running, new, out=running)
        running.lerp_(new, self.momentum)

    @staticmethod
    def _sigmoid(maps):
        maps = maps.flatten(1)
        return (maps if maps.dtype == torch.double else maps.float()).sigmoid()

    def _warn_of_norms(self, num_samples):
        """Names the usual start in detection; once, in the first batch."""
        self._norms_checked = True
        warn_of_dead_norms({'the module': self})
        if self.channel is None or num_samples >= 4:
            return
        if any(
            isinstance(m, _BatchNorm) and m.training
            for m in self.channel.modules()
            if not isinstance(m, nn.SyncBatchNorm)
        ):
            warnings.warn(
                'BA2M: a batch norm of the channel branch has one value per '
                f'sample, and the batch has N = {num_samples}. Set norm_cfg '
                "of the module to dict(type='mmba2m.RunningBN'), or use "
                'SyncBN.',
                stacklevel=3,
            )

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        check_norm_kind(self, state_dict, prefix)
        saved = state_dict.get(f'{prefix}running_normalizer', torch.zeros(1))
        # inference would take it for one that was never updated
        if not saved.is_meta and not (saved.isfinite() & (saved >= 0)).all():
            raise ValueError(
                f'{prefix}running_normalizer is {saved.tolist()}: the '
                'training has overflowed; train it again'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Shows the arguments that submodules do not show."""
        return (
            f'scale_by_batch={self.scale_by_batch}, '
            f'inference={self.inference!r}'
        )
