"""GC: the global context block of GCNet.

Paper: https://arxiv.org/abs/1904.11492.
"""

from mmcv.cnn import ContextBlock
from mmengine.model import BaseModule

from mmba2m.registry import MODELS

from .names import FEATURE_MAP_POSITIONS


@MODELS.register_module()
class GC(ContextBlock, BaseModule):
    """Adds to all positions what a weighted average of them says.

    ``y = x + W₂ ReLU(LN(W₁ z))`` with ``z = Σ_p softmax_p(W_k x)_p x_p``.
    MMCV's ``ContextBlock`` with the paper's defaults; W₂ starts at 0, and the
    module as the identity. The paper's networks have it in all stages but the
    first: ``stages=(False, True, True, True)``.

    Args:
        in_channels: Channels C of the input.
        ratio: The bottleneck has ``int(C · ratio)`` channels. Defaults to
            1/16.

    Raises:
        ValueError: If ``ratio`` leaves no channel.
    """

    positions = FEATURE_MAP_POSITIONS

    def __init__(self, in_channels: int, ratio: float = 1 / 16):
        if int(in_channels * ratio) < 1:
            raise ValueError(
                f'ratio={ratio} leaves GC none of {in_channels} channels'
            )
        super().__init__(in_channels, ratio)

    def init_weights(self) -> None:
        """Lets the module start as the identity, also in a backbone."""
        super().init_weights()
        self.reset_parameters()
