"""Attention over maps, with logits that depend on relative positions.

No matrix of queries × keys is stored: a logit that is a sum of one for the
key's row and one for its column is a product of vectors as well, so both are
appended to the queries, and to the keys the one-hot codes of row and column.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def relative_logits(q: Tensor, embedding: Tensor, halo: int = 0) -> Tensor:
    """Logits by how far right of a query a key is.

    Args:
        q: Queries, shape (..., heads, h, w, d); transposed, the logits are by
            how far below it is.
        embedding: For each distance, shape (odd number, heads or 1, d).
        halo: Keys before the first query and behind the last. Defaults to 0.

    Returns:
        Shape (..., heads, h, w, w + 2 · halo). Keys at a distance without an
        embedding get no weight.
    """
    width, number = q.size(-2), len(embedding)
    keys = torch.arange(-halo, width + halo, device=q.device)
    queries = torch.arange(width, device=q.device)
    distances = keys - queries[:, None] + number // 2  # from 0
    table = embedding[distances.clamp(0, number - 1)].to(q.dtype)
    # table: (w, keys, heads or 1, d)
    logits = torch.einsum('...myxd,xzmd->...myxz', q, table)
    outside = (distances < 0) | (distances >= number)
    # -inf times 0, in the one-hot code, would be NaN
    return logits.masked_fill(outside, torch.finfo(logits.dtype).min / 4)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    logits: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Softmax attention over all positions of a map, without scaling.

    Args:
        q: Queries, shape (..., heads, h, w, d).
        k: Keys, shape (..., heads, H, W, d).
        v: Values, shape (..., heads, H, W, d').
        logits: What a key's row, (..., heads, h, w, H), and its column,
            (..., heads, h, w, W), add. Defaults to None.

    Returns:
        Shape (..., heads, h, w, d').
    """
    shape = *q.shape[:-1], v.size(-1)
    parts = [[q], [k], [v]]
    if logits is not None:
        rows, cols = (
            torch.eye(n, device=k.device).to(k.dtype) for n in k.shape[-3:-1]
        )
        codes = (
            rows[:, None].expand(-1, len(cols), -1),
            cols.expand(len(rows), -1, -1),
        )
        parts[0] += logits
        parts[1] += [code.expand(*k.shape[:-1], -1) for code in codes]
    # the kernels that store no matrix want one size, a multiple of 8
    size = max(sum(t.size(-1) for t in p) for p in parts)
    size += -size % 8
    q, k, v = (_join_to_tokens(p, size) for p in parts)
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out[..., : shape[-1]].reshape(shape)


def _join_to_tokens(parts, size):
    """(..., heads, h, w, d), ... → (·, heads, h · w, size); one copy."""
    missing = size - sum(t.size(-1) for t in parts)
    zeros = parts[0].new_zeros(1).expand(*parts[0].shape[:-1], missing)
    joined = torch.cat([*parts, zeros], dim=-1)
    return joined.flatten(-3, -2).flatten(0, -4)
