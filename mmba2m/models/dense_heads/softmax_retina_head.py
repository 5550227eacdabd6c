"""RetinaNet with softmax cross-entropy, BA²M's counterpart in Table III."""

import math

from mmdet.models.dense_heads import RetinaHead
from mmdet.registry import MODELS


@MODELS.register_module()
class SoftmaxRetinaHead(RetinaHead):
    """RetinaNet's head with a softmax over the classes and background.

    MMDetection's head takes such a loss, but starts for a sigmoid: its equal
    biases cancel in a softmax, so each anchor starts as background with
    probability 1/(C + 1). Summed over some 10⁵ background anchors and divided
    by the few positive ones, the loss starts in the thousands. Here an anchor
    starts as an object, of any class, with probability ``prior_prob``: the
    bias of background is ``log(C(1 − π)/π)``, that of the classes 0 (the
    prior of the `focal loss paper <https://arxiv.org/abs/1708.02002>`_).

    Args:
        num_classes: C, without background.
        in_channels: Channels of the feature maps.
        loss_cls: A loss over ``C + 1`` logits. Defaults to
            ``dict(type='CrossEntropyLoss')``.
        prior_prob: π, in (0, 1). Defaults to 0.01.
        **kwargs: Further arguments of MMDetection's ``RetinaHead``.

    Raises:
        ValueError: If ``prior_prob`` is not in (0, 1), or if the loss is one
            for a sigmoid.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        loss_cls: dict = dict(type='CrossEntropyLoss'),  # noqa: B006
        prior_prob: float = 0.01,
        **kwargs,
    ):
        if not 0 < prior_prob < 1:
            raise ValueError(
                f'SoftmaxRetinaHead needs 0 < prior_prob < 1, got {prior_prob}'
            )
        super().__init__(num_classes, in_channels, loss_cls=loss_cls, **kwargs)
        if self.use_sigmoid_cls or getattr(self.loss_cls, 'use_sigmoid', 0):
            raise ValueError(
                f'SoftmaxRetinaHead needs a softmax loss, got {loss_cls}'
            )
        self.prior_prob = prior_prob

    def init_weights(self) -> None:
        """Initializes as RetinaNet's head does, then sets the prior."""
        done = self.is_init
        super().init_weights()
        if done:
            return
        prior = self.prior_prob
        # per anchor of a position: the classes, then background
        bias = self.retina_cls.bias.data.view(-1, self.cls_out_channels)
        bias.zero_()
        bias[:, -1] = math.log(self.num_classes * (1 - prior) / prior)
