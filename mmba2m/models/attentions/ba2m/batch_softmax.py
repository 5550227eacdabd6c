"""The normaliser of a softmax over the batch, of one rank or of all."""

import torch
from torch import distributed


def is_distributed() -> bool:
    """Whether there are other ranks."""
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def batch_exp_sum(logits, sync=False):
    """Computes ``Σ exp(logits − shift)``, where shift is the maximum.

    Shifted by the maximum, ``n`` equal logits give a sum of exactly ``n``.

    Args:
        logits (Tensor): Shape (n,); n may differ between ranks.
        sync (bool): Whether sum and maximum are those of all ranks. All must
            call it then; gradients are exact, of the sum of their losses.
            One collective of three numbers in the forward pass, one of one
            number in the backward pass. Defaults to False.

    Returns:
        tuple[Tensor]: Sum, shift and number of the logits, each shape ();
        only the sum has a gradient.
    """
    shift = logits.detach().max()
    total = (logits - shift).exp().sum()
    # `full` runs on the device, a copy from the host would wait for it
    count = torch.full_like(total, logits.numel())
    if sync and is_distributed():
        return _SumOverRanks.apply(total, shift, count)
    return total, shift, count


class _SumOverRanks(torch.autograd.Function):
    """Adds the exponentials of ranks, each shifted by its own maximum."""

    @staticmethod
    def forward(ctx, total, shift, count):
        # a row for each rank: gloo's all_gather of tensors is too young
        ranks = total.new_zeros(distributed.get_world_size(), 3)
        ranks[distributed.get_rank()] = torch.stack([total, shift, count])
        distributed.all_reduce(ranks)
        totals, shifts, counts = ranks.unbind(1)
        global_shift = shifts.max()
        global_total = (totals * (shifts - global_shift).exp()).sum()
        global_count = counts.sum()
        ctx.save_for_backward((shift - global_shift).exp())
        ctx.mark_non_differentiable(global_shift, global_count)
        return global_total, global_shift, global_count

    @staticmethod
    def backward(ctx, grad, *_):
        (scale,) = ctx.saved_tensors
        # the loss of every rank depends on the sum
        grad = grad.contiguous().clone()
        distributed.all_reduce(grad)
        return grad * scale, None, None
