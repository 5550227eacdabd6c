"""MMDetection's ``plugins`` option for MMPretrain's residual blocks."""

from functools import partial

from mmcv.cnn import build_plugin_layer


def _apply_plugin(plugin, module, inputs):
    """A forward pre-hook: what would enter ``module`` passes a plugin."""
    return plugin(*inputs)


class BlockPluginsMixin:
    """Adds plugin layers inside the blocks (Fig. 4c, Table VII).

    MMPretrain's blocks have no slot for plugins. They are children of the
    block, under the names MMDetection gives them (checkpoints carry over),
    and run as forward pre-hooks of what follows their position.

    Args:
        *args: Arguments of the host's ResNet.
        plugins (Sequence[dict] | None): As in MMDetection's ResNet: each has
            a ``cfg`` for MMCV's ``build_plugin_layer``, e.g.
            ``dict(type='mmba2m.BA2M', reduction=16)``, a ``position``
            ('after_conv1', 'after_conv2' or, in bottlenecks, 'after_conv3')
            and optionally ``stages``, one bool per stage. 'after' means
            behind norm and ReLU; behind the last convolution, behind its
            norm. Defaults to None.
        **kwargs: Arguments of the host's ResNet.

    Raises:
        ValueError: If a position does not exist in the block, or ``stages``
            has not one entry per stage.
    """

    def __init__(self, *args, plugins=None, **kwargs):
        super().__init__(*args, **kwargs)
        for plugin in plugins or ():
            stages = plugin.get('stages') or (True,) * self.num_stages
            if len(stages) != self.num_stages:
                raise ValueError(
                    f'stages={tuple(stages)} of a plugin has {len(stages)} '
                    f'entries, the network has {self.num_stages} stages'
                )
            for name, enabled in zip(self.res_layers, stages, strict=True):
                if enabled:
                    for block in getattr(self, name):
                        self._add_plugin(block, **plugin)
        self._freeze_stages()

    @staticmethod
    def _add_plugin(block, cfg, position, stages=None):
        convs = ['conv1', 'conv2', 'conv3']
        convs = [conv for conv in convs if hasattr(block, conv)]
        positions = [f'after_{conv}' for conv in convs]
        if position not in positions:
            raise ValueError(
                f'position of a plugin in {type(block).__name__} must be '
                f'one of {positions}, got {position!r}'
            )
        index = positions.index(position)
        # drop_path, an identity by default, is what follows the last norm
        following = [*convs, 'drop_path'][index + 1]
        cfg = dict(cfg)
        name, layer = build_plugin_layer(
            cfg,
            in_channels=getattr(block, convs[index]).out_channels,
            postfix=cfg.pop('postfix', ''),
        )
        if hasattr(block, name):
            raise ValueError(
                f'two plugins in a block are named {name!r}; give one a '
                'postfix'
            )
        block.add_module(name, layer)
        getattr(block, following).register_forward_pre_hook(
            partial(_apply_plugin, layer)
        )
