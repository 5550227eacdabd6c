"""Variants of modules that only studies train: other readings, controls.

Registered with force, as one process may import this file twice.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmba2m.models.attentions import BA2M, SE, RunningBN
from mmba2m.registry import MODELS


@MODELS.register_module(force=True)
class OnePlusBA2M(BA2M):
    """``x · (1 + w)`` with weights that sum to 1, as in residual attention.

    On and off are nearly the same at inference, as Sec. III-D says of the
    paper's networks.
    """

    def __init__(self, in_channels: int, **kwargs):
        super().__init__(in_channels, scale_by_batch=False, **kwargs)

    def weigh(self, sar: Tensor) -> Tensor:
        """Turns SARs (N,) into factors (N,), about 1 + 1/N."""
        weights = super().weigh(sar)
        known = self.training or self.running_normalizer > 0
        return torch.where(torch.as_tensor(known), 1 + weights, weights)


@MODELS.register_module(force=True)
class MapBA2M(BA2M):
    """The SAR kept as a map, with a softmax over the batch per position.

    Eq. 9 without the mean over positions: the weight of a sample is one of
    each of its positions, and a network cannot undo it by one factor.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Scales each position of each sample: (N, C, H, W) → the same."""
        spatial = torch.maximum(
            self.local_spatial(x),
            F.interpolate(self.global_spatial(x), x.shape[-2:]),
        )
        a = self.channel(x).float().sigmoid()  # (N, C, 1, 1)
        p = spatial.float().sigmoid()  # (N, 1, H, W)
        strength = torch.maximum(a, p).mean(1, keepdim=True).exp()
        if self.training:
            normalizer = strength.mean(0, keepdim=True)
            self._update_running_normalizer(normalizer.mean().detach())
        else:
            running = self.running_normalizer
            normalizer = torch.where(running > 0, running, strength)
        return (x * (strength / normalizer)).to(x.dtype)


@MODELS.register_module(force=True)
class DoubledSE(SE):
    """SE times 2: its gates start around 1 and not around 1/2.

    What SE costs a pre-trained network: its gates, or that they are half shut?

    Args:
        in_channels: Channels C of the input.
        zero_init: Whether the last layer starts at 0, and so all gates at
            exactly 1. Defaults to False.
        **kwargs: Other arguments of SE.
    """

    def __init__(
        self, in_channels: int, zero_init: bool = False, **kwargs: Any
    ):
        super().__init__(in_channels, **kwargs)
        self.zero_init = zero_init
        self._init_gates()

    def init_weights(self) -> None:
        """Sets the last layer of ``zero_init``, also after a host set it."""
        super().init_weights()
        self._init_gates()

    def _init_gates(self):
        if self.zero_init:
            nn.init.zeros_(self.conv2.conv.weight)
            nn.init.zeros_(self.conv2.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        return 2 * super().forward(x)


@MODELS.register_module(force=True)
class BatchRenorm(RunningBN):
    """Batch renormalisation (arXiv 1702.03275), the rival of RunningBN.

    The same values as :class:`RunningBN` as long as r ≤ 3 and d ≤ 5, with a
    gradient through the statistics of the batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, C, H, W)."""
        if not self.training or not x.numel():
            return super().forward(x)
        self._update(x.detach())
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        deviation = (var + self.eps).sqrt()
        shape = (1, -1, 1, 1)
        running = (self.running_var + self.eps).sqrt().view(shape)
        r = (deviation.detach() / running).clamp(1 / 3, 3)
        d = (mean.detach() - self.running_mean.view(shape)) / running
        y = (x - mean) / deviation * r + d.clamp(-5, 5)
        return y * self.weight.view(shape) + self.bias.view(shape)
