"""Attention modules for the blocks and stages of residual networks."""

from .bam import BAM
from .bridge_attention import BridgeAttention
from .ge import GE
from .positions import FEATURE_MAP_POSITIONS
from .sk import SK

__all__ = ['BAM', 'FEATURE_MAP_POSITIONS', 'GE', 'SK', 'BridgeAttention']
