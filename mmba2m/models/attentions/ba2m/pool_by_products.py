"""Adaptive average pooling as matrix products, for ONNX."""

import torch


def pool_by_products(maps: torch.Tensor, limit: int) -> torch.Tensor:
    """Averages: (N, C, H, W) → (N, C, min(H, limit), min(W, limit)).

    It gives what ``F.adaptive_avg_pool2d`` gives, by operators that ONNX has:
    PyTorch's exporter knows the pooling only where bins are of one size, and
    an exported graph cannot ask whether a side is beyond the limit.
    """
    rows, columns = (
        _averages(size, limit).to(maps) for size in maps.shape[-2:]
    )
    return rows @ maps @ columns.T


def _averages(size, limit):
    """The matrix (bins, size) that averages over the bins."""
    size = torch.as_tensor(size)  # a tensor already where the graph is traced
    bins = size.clamp(max=limit)
    bin_ = torch.arange(bins)[:, None]
    index = torch.arange(size)
    # bins overlap where the size is no multiple of their number
    start = bin_ * size // bins
    end = ((bin_ + 1) * size + bins - 1) // bins
    inside = ((index >= start) & (index < end)).float()
    return inside / inside.sum(1, keepdim=True)
