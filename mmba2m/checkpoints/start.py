"""Makes the weights of a plain ResNet the start of a BA²M network."""

from mmengine.config import Config
from mmengine.registry import MODELS

from mmba2m.models.attentions.ba2m import BA2M

from .checks import compare_states, describe_differences
from .files import get_weights

_PREFIX = 'backbone.'
# the classifier of torchvision's networks
_HEAD = 'fc.'
# of batch norms; old checkpoints are without it
_COUNTER = '.num_batches_tracked'


def to_ba2m_start(checkpoint: dict, cfg: Config) -> tuple[dict, list[str]]:
    """Fits a checkpoint to the backbone of a config.

    Args:
        checkpoint: Of torchvision's ResNet, or of a network of
            MMDetection or MMPretrain, which keep theirs below ``backbone.``;
            a state dict, or a dict with it as 'state_dict' or 'model'.
        cfg: Of a detector or classifier with BA²M.

    Returns:
        The checkpoint with the backbone alone, for
        ``init_cfg=dict(type='Pretrained', prefix='backbone.')``, and a report
        of what matched, what starts anew and what is not used.

    Raises:
        ValueError: If the config has no backbone with BA²M, or the checkpoint
            is of another one, with the first names and shapes that differ.
    """
    backbone = _build_backbone(cfg)
    if isinstance(checkpoint.get('model'), dict):
        checkpoint = checkpoint['model']
    weights = get_weights(checkpoint)
    used = {k: v for k, v in weights.items() if not k.startswith(_HEAD)}
    if any(key.startswith(_PREFIX) for key in weights):
        used = {k: v for k, v in weights.items() if k.startswith(_PREFIX)}
    unused = [key for key in weights if key not in used]
    used = {key.removeprefix(_PREFIX): v for key, v in used.items()}

    own = backbone.state_dict()
    others = getattr(backbone, 'attention_names', ())
    new = {
        name: {key for key in own if key.startswith(f'{name}.')}
        for name, module in backbone.named_modules()
        if isinstance(module, BA2M) or name in others
    }
    differences = compare_states(own, used)
    uncounted = [k for k in differences['missing'] if k.endswith(_COUNTER)]
    may_miss = set(uncounted).union(*new.values())
    differences['missing'] = [
        key for key in differences['missing'] if key not in may_miss
    ]
    problems = describe_differences(differences)
    if problems:
        raise ValueError(
            f'it does not fit the backbone, {cfg.model.backbone.type}: of '
            f'its weights {problems}'
        )
    report = [
        f'matched: {len(used)} of {len(used)} weights for '
        f'{cfg.model.backbone.type}, '
        f'{sum(value.numel() for value in used.values()):,} numbers'
    ]
    for name, keys in new.items():
        keys = keys - set(used)
        numbers = sum(own[key].numel() for key in keys)
        if keys:
            report.append(
                f'new: {name}, {len(keys)} weights, {numbers:,} numbers'
            )
    counters = set(uncounted).difference(*new.values())
    if counters:
        report.append(f'new: {len(counters)} counters of batch norms')
    report += [f'not used: {k} {tuple(weights[k].shape)}' for k in unused]
    if cfg.model.backbone.get('style') == 'caffe':
        report.append(
            "note: the config has style='caffe', strides in the first "
            "convolution of a block; torchvision's are in the second"
        )
    state = {f'{_PREFIX}{key}': value for key, value in used.items()}
    return dict(meta={}, state_dict=state), report


def _build_backbone(cfg):
    cfg_backbone = (cfg.get('model') or {}).get('backbone')
    if cfg_backbone is None:
        raise ValueError('the config has no model.backbone')
    scope = cfg.get('default_scope') or 'mmengine'
    with MODELS.switch_scope_and_registry(scope) as registry:
        backbone = registry.build(cfg_backbone)
    if not any(isinstance(module, BA2M) for module in backbone.modules()):
        raise ValueError(
            f'the backbone of the config, {cfg_backbone.type}, has no BA2M'
        )
    return backbone
