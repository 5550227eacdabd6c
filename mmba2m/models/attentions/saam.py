"""SAAM: Score-based Aggregated Attention Module.

Paper: Lee and Chung, "Score-based Aggregation for Attention Modules in Image
Classification Tasks", TIME-E 2019, doi 10.1109/TIME-E47986.2019.9353302. Only
its abstract is public: channel attention, with a pooling that is learned,
weighs each pixel by its importance, and generalises average and max pooling.

All else is a reading: the score is a 1×1 convolution, which all channels
share, a softmax over the pixels turns scores into weights, and the channel
attention is SE's. A constant score is average pooling, a steep one picks a
pixel.
"""

from torch import Tensor, nn

from mmba2m.registry import MODELS

from .se import SE


@MODELS.register_module()
class SAAM(SE):
    """SE over a weighted average of the pixels.

    ``y = x · σ(W₂ ReLU(W₁ z))`` with ``z_c = Σ_p softmax_p(s)_p x_cp`` and
    ``s = W_s x + b_s``. W_s starts at 0, where z is the average: the module
    starts as :class:`SE`. A reading of the paper's abstract, see above.

    Args:
        in_channels: Channels C of the input.
        reduction: r; the bottleneck has C // r channels. Defaults to 16.

    Raises:
        ValueError: If ``reduction`` is out of range.
    """

    _abbr_ = 'saam'

    def __init__(self, in_channels: int, reduction: int = 16):
        super().__init__(in_channels, reduction)
        # the bias has no effect, as in GC: a softmax ignores it
        self.score = nn.Conv2d(in_channels, 1, 1)
        self._init_score()

    def init_weights(self) -> None:
        """Lets the scores start equal."""
        super().init_weights()
        self._init_score()

    def _init_score(self):
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def squeeze(self, x: Tensor) -> Tensor:
        """Pools by scores: (N, C, H, W) → (N, C, 1, 1)."""
        weights = self.score(x).flatten(2).softmax(2)  # (N, 1, H·W)
        pooled = x.flatten(2) @ weights.transpose(1, 2)  # (N, C, 1)
        return pooled.unsqueeze(3)
