"""Attention modules by their names, and the places where they can sit."""

from mmengine.registry import MODELS as MMENGINE_MODELS

from mmba2m.registry import MODELS

FEATURE_MAP_POSITIONS = (
    'residual',
    'after_conv1',
    'after_conv2',
    'after_conv3',
    'after_stage',
)
"""Of a module that keeps the shape of a map (N, C, H, W)."""


def list_attentions() -> list[str]:
    """Lists the names of the attention modules of this package."""
    return sorted(
        name
        for name, cls in MODELS.module_dict.items()
        if hasattr(cls, 'positions')
    )


def find_attention(name: str | type) -> type:
    """Finds the class of an attention module.

    Args:
        name: Of this package's modules first, then of what the registries of
            models have, as 'ContextBlock' or 'mmdet.Name'; or the class.

    Raises:
        ValueError: If there is none of this name.
    """
    if not isinstance(name, str):
        return name
    with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
        cls = MODELS.get(name) or registry.get(name)
    if cls is None:
        raise ValueError(
            f'there is no attention module {name!r}; there are '
            f'{", ".join(list_attentions())}'
        )
    return cls
