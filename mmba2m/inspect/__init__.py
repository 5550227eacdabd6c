"""What the tools that look into a trained network share."""

from .attention import Attention, collect_attention
from .load import build_dataset, load_network, read_trained

__all__ = [
    'Attention',
    'build_dataset',
    'collect_attention',
    'load_network',
    'read_trained',
]
