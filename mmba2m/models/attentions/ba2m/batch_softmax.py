"""The softmax over the batch, of one rank or of all."""

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, distributed


def batch_softmax(
    logits: Tensor,
    scale_by_batch: bool = True,
    sync: bool = False,
    group: 'distributed.ProcessGroup | None' = None,
) -> tuple[Tensor, Tensor]:
    """Computes ``exp(logits) / Z`` over the batch (Eqs. 10–12).

    Equal logits get weights of exactly 1, or 1/n.

    Args:
        logits: Shape (n,); n may be 0, and may differ between ranks.
        scale_by_batch: Whether Z is the mean of the exponentials, so that
            the weights have a mean of 1, and not their sum. Defaults to True.
        sync: Whether Z is that of all ranks. All must call it then;
            gradients are exact, of the sum of their losses. One collective
            of three numbers a rank in the forward pass, one of one number in
            the backward pass. Defaults to False.
        group: The ranks; one outside of it is alone. Defaults to None, all.

    Returns:
        The weights, shape (n,), and Z without gradient, shape (); 0 where no
        rank has a sample.
    """
    if not sync or get_world_size(group) <= 1:
        weights, total = logits.softmax(0), logits.detach().exp().sum()
        if scale_by_batch:
            n = max(logits.numel(), 1)
            # by the same rounded 1/n, equal logits get 1; `full` runs on the
            # device, a copy from the host would wait for it
            weights = weights / torch.full_like(total, 1 / n)
            total = total / n
        return weights, total
    # shifted by the maximum, n equal logits have a sum of exactly n
    lowest = torch.finfo(logits.dtype).min
    shift = F.pad(logits.detach(), (0, 1), value=lowest).max()
    total = (logits - shift).exp().sum()
    count = torch.full_like(total, logits.numel())
    total, shift, count = _SumOverRanks.apply(total, shift, count, group)
    if scale_by_batch:
        total = total / count.clamp(min=1)
    return (logits - shift).exp() / total, total.detach() * shift.exp()


class _SumOverRanks(torch.autograd.Function):
    """Adds the exponentials of ranks, each shifted by its own maximum."""

    @staticmethod
    def forward(ctx, total, shift, count, group):
        # a row for each rank: gloo's all_gather of tensors is too young
        ranks = total.new_zeros(distributed.get_world_size(group), 3)
        rank = distributed.get_rank(group)
        ranks[rank] = torch.stack([total, shift, count])
        distributed.all_reduce(ranks, group=group)
        totals, shifts, counts = ranks.unbind(1)
        global_shift = shifts.max()
        global_total = (totals * (shifts - global_shift).exp()).sum()
        global_count = counts.sum()
        ctx.group = group
        ctx.save_for_backward((shift - global_shift).exp())
        ctx.mark_non_differentiable(global_shift, global_count)
        return global_total, global_shift, global_count

    @staticmethod
    def backward(ctx, grad, *_):
        (scale,) = ctx.saved_tensors
        # the loss of every rank depends on the sum
        grad = grad.contiguous().clone()
        distributed.all_reduce(grad, group=ctx.group)
        return grad * scale, None, None, None
