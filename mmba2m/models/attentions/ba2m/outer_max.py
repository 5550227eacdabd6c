"""The mean of ``max(a_c, p_j)`` over all pairs, without forming the pairs."""

import torch

#: pairs up to which forming them is cheaper, where there is no backward pass
FEW = 2**22


def mean_outer_max(a: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Computes the mean over c, j of ``max(a[:, c], p[:, j])``.

    Each value counts as often as it is the larger one of a pair. Binary
    searches of the longer side in the other, sorted, tell how often that is,
    in O((C + P) log C) time and O(C + P) memory instead of O(C·P). The counts
    have no gradient, so the backward pass is products.

    Args:
        a: Shape (N, C).
        p: Shape (N, P), of the same dtype.

    Returns:
        Shape (N,).
    """
    if torch.onnx.is_in_onnx_export():  # ONNX knows no binary search
        # in two steps: runtimes add float32 numbers one after the other
        return torch.maximum(a[:, :, None], p[:, None]).mean(2).mean(1)
    pairs = a.size(1) * p.size(1)
    if not torch.is_grad_enabled() and a.size(0) * pairs <= FEW:
        return torch.maximum(a[:, :, None], p[:, None]).mean((1, 2))
    if p.size(1) < a.size(1):
        a, p = p, a
    ascending = a.sort(dim=1).values
    below = torch.searchsorted(ascending.detach(), p.detach(), right=True)
    # how many of p have at most k of a below them, so lose to the k-th
    counts = below.new_zeros(a.size(0), a.size(1) + 1)
    counts = counts.scatter_add(1, below, torch.ones_like(below)).cumsum(1)
    sums = (ascending * counts[:, :-1]).sum(1) + (p * below).sum(1)
    return sums / pairs
