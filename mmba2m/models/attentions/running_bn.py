"""A batch norm that needs no batch: its running statistics normalise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmba2m.registry import MODELS


@MODELS.register_module()
class RunningBN(nn.Module):
    """Normalises by running statistics, in training as in inference.

    For modules in a network that trains with few images and frozen batch
    norms. Batch norms of theirs would be frozen as well, at statistics that
    nobody measured; norms within a sample set the sample's mean, which BA²M
    tells samples apart by. Here each batch, even one image, moves the
    statistics, and these normalise it: no output depends on the rest of its
    batch, and the network that predicts is the one that was trained. No
    gradient goes through the statistics.

    Parameters and buffers are those of batch norm and mean the same in
    inference: weights trained with either load into the other. It is no
    ``_BatchNorm`` for the hosts, so ``norm_eval`` does not freeze it;
    ``eval()`` does. As with batch norm, ranks have their own statistics,
    which MMEngine's SyncBuffersHook averages.

    Args:
        num_features: Channels C.
        eps: Added to the variance. Defaults to 1e-5.
        momentum: Least weight of a batch in the running statistics; the n-th
            batch has 1/n as long as that is more. Defaults to 0.02, so that
            about 50 batches count.
    """

    _abbr_ = 'bn'

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.02
    ):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer('running_mean', torch.zeros(num_features))
        self.register_buffer('running_var', torch.ones(num_features))
        self.register_buffer('num_batches_tracked', torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, C, H, W)."""
        if self.training and x.numel():
            self._update(x.detach())
        mean, var = self.running_mean, self.running_var
        if self.training:
            # as they are now: a second forward pass must not change what the
            # backward pass of the first reads
            mean, var = mean.clone(), var.clone()
        affine = self.weight, self.bias
        return F.batch_norm(x, mean, var, *affine, eps=self.eps)

    @torch.no_grad()
    def _update(self, x):
        x = x.to(self.running_var.dtype)
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        self.num_batches_tracked += 1
        # a tensor: reading the count would wait for the device
        weight = (1 / self.num_batches_tracked).clamp(min=self.momentum)
        weight = weight.to(var.dtype)
        shift = mean - self.running_mean
        # the variance of the mixture: that between batches counts, which is
        # all there is where a batch has one value
        self.running_var.lerp_(var + (1 - weight) * shift**2, weight)
        self.running_mean.lerp_(mean, weight)

    def extra_repr(self) -> str:
        """Shows the arguments."""
        return f'{len(self.weight)}, eps={self.eps}, momentum={self.momentum}'
