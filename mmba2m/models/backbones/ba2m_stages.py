"""The mixin that appends BA²M to the stages of a host's backbone."""

from collections.abc import Sequence
from typing import Any

from mmba2m.models.attentions.ba2m import BA2M

from .slots import AttentionMixin


class BA2MStagesMixin(AttentionMixin):
    """Backbone with a BA²M module after its stages (Eq. 15, Fig. 4d).

    The module is the last child of ``layer{i}``, named ``ba2m``, behind what
    ``attention`` puts there. See :class:`AttentionMixin` for what it leaves
    unchanged, and for the other arguments.

    Args:
        *args: Arguments of the host's backbone.
        ba2m_stages: Whether each stage gets the module (Table XIII); None
            for all. Defaults to None.
        ba2m_cfg: Arguments of :class:`BA2M` other than ``in_channels``.
            Defaults to None.
        **kwargs: Arguments of the host's backbone, and ``attention``.

    Raises:
        ValueError: If ``ba2m_stages`` has not one entry per stage, or
            :class:`BA2M` does not fit a stage.
    """

    def __init__(
        self,
        *args: Any,
        ba2m_stages: Sequence[bool] | None = None,
        ba2m_cfg: dict | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        entry = dict(type=BA2M, position='after_stage', stages=ba2m_stages)
        taken = [key for key in entry if key in (ba2m_cfg or {})]
        if taken:
            raise ValueError(
                f"ba2m_cfg takes BA2M's arguments, not {taken[0]!r}: stages "
                'are chosen by ba2m_stages, other places by attention'
            )
        self._add_attention([{**entry, **(ba2m_cfg or {})}])
