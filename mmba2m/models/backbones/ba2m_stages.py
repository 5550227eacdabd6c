"""The mixin that appends BA²M to the stages of a host's backbone."""

from mmba2m.models.layers import BA2M


class BA2MStagesMixin:
    """Appends a BA²M module to residual stages (Eq. 15, Fig. 4d).

    Mixed in before a ResNet of MMDetection or MMPretrain. The module is the
    last child of ``layer{i}``, named ``ba2m``: no key of the host changes, a
    plain ResNet checkpoint loads with only ``layer*.ba2m.*`` missing, and
    ``frozen_stages``, ``norm_eval``, ``with_cp`` and ``out_indices`` keep
    their meaning. The map handed on is the weighted one. Backbones of other
    families say in ``_stages`` where theirs end.

    Stages behind the last of ``out_indices`` compute nothing that anybody
    uses: there the parameters of the module are frozen, so that distributed
    training finds none without a gradient.

    Args:
        *args: Arguments of the host's backbone.
        ba2m_stages (Sequence[bool] | None): Whether each stage gets the
            module (Table XIII); ``None`` for all. Defaults to None.
        ba2m_cfg (dict | None): Arguments of :class:`BA2M` other than
            ``in_channels``. Defaults to None.
        **kwargs: Arguments of the host's backbone.

    Raises:
        ValueError: If ``ba2m_stages`` has not one entry per stage, or
            :class:`BA2M` does not fit a stage.
    """

    def __init__(self, *args, ba2m_stages=None, ba2m_cfg=None, **kwargs):
        super().__init__(*args, **kwargs)
        stages = self._stages()
        if ba2m_stages is None:
            ba2m_stages = (True,) * len(stages)
        if len(ba2m_stages) != len(stages):
            raise ValueError(
                f'ba2m_stages={tuple(ba2m_stages)} has {len(ba2m_stages)} '
                f'entries, the network has {len(stages)} stages'
            )
        for enabled, stage in zip(ba2m_stages, stages, strict=True):
            if enabled:
                self._append_ba2m(*stage, ba2m_cfg or {})
        self._freeze_stages()

    def _stages(self):
        """Lists each stage: its index in ``out_indices``, name and width."""
        # the width of a ResNet doubles from stage to stage
        return [
            (i, name, self.feat_dim // 2 ** (self.num_stages - 1 - i))
            for i, name in enumerate(self.res_layers)
        ]

    def _append_ba2m(self, index, name, channels, ba2m_cfg):
        try:
            module = BA2M(channels, **ba2m_cfg)
        except (TypeError, ValueError) as error:
            raise type(error)(f'{name}: {error}') from None
        if index > max(self.out_indices):
            module.requires_grad_(False)
        self.get_submodule(name).add_module('ba2m', module)
