"""Attention modules for the blocks and stages of residual networks."""

from .aa_conv import AAConv2d
from .aw_conv import AWConv2d
from .ba2m import BA2M
from .bam import BAM
from .bridge_attention import BridgeAttention
from .cbam import CBAM
from .context_block import GC
from .eca import ECA
from .ge import GE
from .names import FEATURE_MAP_POSITIONS
from .running_bn import RunningBN
from .saam import SAAM
from .sasa import SASA
from .se import SE
from .sge import SGE
from .sk import SK
from .srm import SRM

__all__ = [
    'BA2M',
    'BAM',
    'CBAM',
    'ECA',
    'FEATURE_MAP_POSITIONS',
    'GC',
    'GE',
    'SAAM',
    'SASA',
    'SE',
    'SGE',
    'SK',
    'SRM',
    'AAConv2d',
    'AWConv2d',
    'BridgeAttention',
    'RunningBN',
]
