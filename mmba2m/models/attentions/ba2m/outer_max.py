"""The mean of ``max(a_c, p_j)`` over all pairs, without forming the pairs."""

import torch
import torch.nn.functional as F


def mean_outer_max(a: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Computes the mean over c, j of ``max(a[:, c], p[:, j])``.

    Of the sorted ``a``, a value of ``p`` replaces those below it and leaves
    the sum of the rest: a binary search and a table of suffix sums per value
    take O((C + P) log C) time and O(C + P) memory instead of O(C·P). Of the
    two, the shorter is the one that is sorted.

    Args:
        a: Shape (N, C).
        p: Shape (N, P), of the same dtype.

    Returns:
        Shape (N,).
    """
    if torch.onnx.is_in_onnx_export():  # ONNX knows no binary search
        # in two steps: runtimes add float32 numbers one after the other
        return torch.maximum(a[:, :, None], p[:, None]).mean(2).mean(1)
    if p.size(1) < a.size(1):
        a, p = p, a
    ascending = a.sort(dim=1).values
    # suffix_sums[:, k] = sum of ascending[:, k:]
    suffix_sums = F.pad(ascending.flip(1).cumsum(1).flip(1), (0, 1))
    num_below = torch.searchsorted(ascending.detach(), p.detach(), right=True)
    sums = num_below * p + suffix_sums.gather(1, num_below)  # (N, P)
    return sums.mean(1) / a.size(1)
