"""Refuses checkpoints that do not fit, which MMEngine loads with a warning."""

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader


def check_checkpoint(model, path, strict):
    """Compares names and shapes of a checkpoint with those of a model.

    Args:
        model (nn.Module): The model, wrapped or not.
        path (str): A checkpoint, or a file with only its state dict.
        strict (bool): Whether both must agree. If not, as where training
            starts from another task, what the model has anew is fine (heads,
            BA²M), but the backbone's weights must fit.

    Raises:
        ValueError: If it does not fit, with the first names that differ.
        FileNotFoundError: If there is no such file.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    loaded = checkpoint.get('state_dict', checkpoint)
    loaded = {key.removeprefix('module.'): v for key, v in loaded.items()}
    own = model.state_dict()

    shapes = [
        f'{key} is {tuple(loaded[key].shape)}, not {tuple(own[key].shape)}'
        for key in own
        if key in loaded and loaded[key].shape != own[key].shape
    ]
    missing = [key for key in own if key not in loaded]
    unexpected = [key for key in loaded if key not in own]
    if not strict:
        shapes = [text for text in shapes if text.startswith('backbone.')]
        missing = [
            key
            for key in missing
            if key.startswith('backbone.') and 'ba2m' not in key
        ]
        unexpected = []
    problems = [
        f'{len(keys)} {what}: {", ".join(keys[:3])}'
        + (', …' if len(keys) > 3 else '')
        for what, keys in (
            ('of another shape', shapes),
            ('missing', missing),
            ('unexpected', unexpected),
        )
        if keys
    ]
    if problems:
        raise ValueError(
            f'{path} is a checkpoint of another network than the config: '
            f'of its weights {"; ".join(problems)}'
        )
    print_log(
        f'{path} fits: {len(set(own) & set(loaded))} of {len(own)} weights',
        'current',
    )
