"""Places in a residual network where an attention module can sit."""

FEATURE_MAP_POSITIONS = (
    'residual',
    'after_conv1',
    'after_conv2',
    'after_conv3',
    'after_stage',
)
"""Of a module that keeps the shape of a map (N, C, H, W)."""
