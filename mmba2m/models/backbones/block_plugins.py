"""MMDetection's ``plugins`` option for MMPretrain's residual blocks."""

from .slots import AttentionMixin, to_entries


class BlockPluginsMixin(AttentionMixin):
    """Adds plugin layers inside the blocks (Fig. 4c, Table VII).

    MMPretrain's blocks have no slot for plugins. They are children of the
    block, under the names MMDetection gives them: checkpoints carry over.

    Args:
        *args: Arguments of the host's ResNet.
        plugins (Sequence[dict] | None): As in MMDetection's ResNet: each has
            a ``cfg`` for MMCV's ``build_plugin_layer``, e.g.
            ``dict(type='mmba2m.BA2M', reduction=16)``, a ``position``
            ('after_conv1', 'after_conv2' or, in bottlenecks, 'after_conv3')
            and optionally ``stages``, one bool per stage. 'after' means
            behind norm and ReLU; behind the last convolution, behind its
            norm. Defaults to None.
        attention (dict | Sequence[dict] | None): See
            :class:`AttentionMixin`; the plugins come first. Defaults to None.
        **kwargs: Arguments of the host's ResNet.

    Raises:
        ValueError: If a position does not exist in the block, or ``stages``
            has not one entry per stage.
    """

    def __init__(self, *args, plugins=None, attention=None, **kwargs):
        plugins = [
            dict(
                plugin['cfg'],
                position=plugin['position'],
                stages=plugin.get('stages'),
            )
            for plugin in plugins or ()
        ]
        super().__init__(
            *args, attention=[*plugins, *to_entries(attention)], **kwargs
        )
