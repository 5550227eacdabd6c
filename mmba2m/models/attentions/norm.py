"""The norm of the attention modules, also for pooled maps."""

import math
import warnings
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm


def check_norm_kind(module: nn.Module, state: dict, prefix: str) -> None:
    """Refuses weights that were trained with another kind of norm.

    Raises:
        ValueError: If only the module, or only the state dict's keys with the
            prefix, have norms with running statistics.
    """
    loaded = [key for key in state if key.startswith(prefix)]
    own, other = (
        any(key.endswith('running_mean') for key in keys)
        for keys in (module.state_dict(), loaded)
    )
    if own != other and any(key.endswith('norm.weight') for key in loaded):
        norm = "type='BN'" if other else "type='GN', num_groups=1"
        raise ValueError(
            f'{prefix[:-1]}: the weights were trained with another kind of '
            f'norm; set norm_cfg of the module to dict({norm})'
        )


def warn_of_dead_norms(modules: dict[str, nn.Module]) -> None:
    """Warns of modules whose batch norms are frozen without statistics.

    A host with ``norm_eval`` freezes them where they are; unless a checkpoint
    brought statistics, nothing is normalised, now and for ever.

    Args:
        modules: Attention modules by name, in a network that trains.
    """
    dead = {
        type(module).__name__: name
        for name, module in modules.items()
        for norm in module.modules()
        if isinstance(norm, _BatchNorm)
        and norm.track_running_stats
        and not norm.training
        and norm.num_batches_tracked == 0
    }
    for kind, name in dead.items():
        warnings.warn(
            f'{kind}: batch norms of {name} and others are frozen (norm_eval) '
            'at their initial statistics, so they normalise nothing. Set '
            "norm_cfg of the module to dict(type='mmba2m.RunningBN').",
            stacklevel=4,
        )


class BranchNorm(nn.Module):
    """A norm layer, also for pooled maps and the end of a branch.

    Of one value, a norm within the batch or the sample would leave nothing,
    and PyTorch raises. Batch norm, which gets one value per channel from the
    pooled features of a local batch of 1, uses its running statistics there.
    Norms within a sample, which get one from a 1×1 map, only scale and shift.
    An empty batch passes through either.

    So do norms within a sample at the end of a branch: they would set the
    mean of each sample to the same value, and this mean is what the SAR
    (Eq. 9) is to tell samples apart by.

    Args:
        norm_cfg: Config of the norm; ``None`` for no norm. The
            ``num_groups`` of GN is an upper bound, it becomes the greatest
            common divisor with ``channels``.
        channels: Number of channels.
        pooled: Whether the input is (N, C, 1, 1). Defaults to False.
        last: Whether it is at the end of a branch. Defaults to False.

    Raises:
        ValueError: If the norm of a pooled input has one value per group.
    """

    def __init__(
        self,
        norm_cfg: dict | None,
        channels: int,
        pooled: bool = False,
        last: bool = False,
    ):
        super().__init__()
        self.last = last
        self.norm: nn.Module = nn.Identity()
        if norm_cfg is not None:
            norm_cfg = dict(norm_cfg)
            groups = norm_cfg.get('num_groups')
            if groups is not None:
                norm_cfg['num_groups'] = math.gcd(groups, channels)
            self.norm = build_norm_layer(norm_cfg, channels)[1]
        one_value = pooled and not last and self._group_size() == 1
        if one_value and channels > 1:
            raise ValueError(
                f'norm_cfg={norm_cfg} normalises each of the {channels} '
                'pooled channels over a single value, which leaves nothing '
                'of it; take GN with fewer groups'
            )

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, C, H, W)."""
        norm: Any = self.norm
        if self._uses_running_statistics(x):
            statistics = norm.running_mean, norm.running_var
            affine = norm.weight, norm.bias
            return F.batch_norm(x, *statistics, *affine, eps=norm.eps)
        pooled = x.numel() <= x.size(0) * x.size(1)
        one_value = pooled and self._group_size() == 1
        if one_value or (self.last and self.within_sample):
            if norm.weight is None:
                return x
            return x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        return norm(x)

    @property
    def within_sample(self) -> bool:
        """Whether the norm takes each sample for itself, as GN and IN do."""
        return self._group_size() is not None

    def _group_size(self) -> int | None:
        """Channels that a norm within a sample takes together, or None."""
        if isinstance(self.norm, _InstanceNorm):
            return 1
        if isinstance(self.norm, nn.GroupNorm):
            return self.norm.num_channels // self.norm.num_groups
        return None

    def _uses_running_statistics(self, x: Tensor) -> bool:
        norm = self.norm
        if not isinstance(norm, _BatchNorm) or not norm.training:
            return False
        ranks = 1
        if isinstance(norm, nn.SyncBatchNorm):
            ranks = get_world_size(norm.process_group)
        few = ranks == 1 and x.numel() <= x.size(1)
        return few and norm.running_mean is not None


class Branch(nn.Sequential):
    """Layers whose norms the hosts' ``fuse_conv_bn`` folds at inference.

    It looks among the children, by type, for a batch norm behind each
    convolution. In evaluation, :class:`BranchNorm` is nothing but its norm.
    :class:`RunningBN` is none that it knows, and stays.
    """

    def named_children(self):
        """Yields the children, in evaluation the batch norms themselves."""
        for name, child in super().named_children():
            if isinstance(child, BranchNorm) and not (
                self.training
                or child.training
                or not isinstance(child.norm, _BatchNorm)
            ):
                child = child.norm
            yield name, child

    def add_module(self, name: str, module: nn.Module | None):
        """Adds a child; a batch norm takes the place of the one inside.

        So conversions to SyncBN and back, which put what they made of each
        child by its name, keep the names of the weights.
        """
        old = self._modules.get(name)
        if isinstance(old, BranchNorm) and isinstance(module, _BatchNorm):
            old.norm = module
        else:
            super().add_module(name, module)
