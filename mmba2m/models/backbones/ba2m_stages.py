"""The mixin that appends BA²M to the stages of a host's ResNet."""

from mmba2m.models.layers import BA2M


class BA2MStagesMixin:
    """Appends a BA²M module to residual stages (Eq. 15, Fig. 4d).

    Mixed in before a ResNet of MMDetection or MMPretrain. The module is the
    last child of ``layer{i}``, named ``ba2m``: no key of the host changes, a
    plain ResNet checkpoint loads with only ``layer*.ba2m.*`` missing, and
    ``frozen_stages``, ``norm_eval``, ``with_cp`` and ``out_indices`` keep
    their meaning. The map handed on is the weighted one.

    Stages behind the last of ``out_indices`` compute nothing that anybody
    uses: there the parameters of the module are frozen, so that distributed
    training finds none without a gradient.

    Args:
        *args: Arguments of the host's ResNet.
        ba2m_stages (Sequence[bool] | None): Whether each stage gets the
            module (Table XIII); ``None`` for all. Defaults to None.
        ba2m_cfg (dict | None): Arguments of :class:`BA2M` other than
            ``in_channels``. Defaults to None.
        **kwargs: Arguments of the host's ResNet.

    Raises:
        ValueError: If ``ba2m_stages`` has not one entry per stage, or
            :class:`BA2M` does not fit a stage.
    """

    def __init__(self, *args, ba2m_stages=None, ba2m_cfg=None, **kwargs):
        super().__init__(*args, **kwargs)
        if ba2m_stages is None:
            ba2m_stages = (True,) * self.num_stages
        if len(ba2m_stages) != self.num_stages:
            raise ValueError(
                f'ba2m_stages={tuple(ba2m_stages)} has {len(ba2m_stages)} '
                f'entries, the network has {self.num_stages} stages'
            )
        for i, enabled in enumerate(ba2m_stages):
            if enabled:
                self._append_ba2m(i, ba2m_cfg or {})
        self._freeze_stages()

    def _append_ba2m(self, stage, ba2m_cfg):
        # the width doubles from stage to stage
        channels = self.feat_dim // 2 ** (self.num_stages - 1 - stage)
        name = self.res_layers[stage]
        try:
            module = BA2M(channels, **ba2m_cfg)
        except (TypeError, ValueError) as error:
            raise type(error)(f'{name}: {error}') from None
        if stage > max(self.out_indices):
            module.requires_grad_(False)
        getattr(self, name).add_module('ba2m', module)
