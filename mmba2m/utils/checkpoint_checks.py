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

    differences = compare_states(own, loaded)
    if not strict:
        differences['of another shape'] = [
            text
            for text in differences['of another shape']
            if text.startswith('backbone.')
        ]
        differences['missing'] = [
            key
            for key in differences['missing']
            if key.startswith('backbone.') and 'ba2m' not in key
        ]
        differences['unexpected'] = []
    problems = describe_differences(differences)
    if problems:
        raise ValueError(
            f'{path} is a checkpoint of another network than the config: '
            f'of its weights {problems}'
        )
    print_log(
        f'{path} fits: {len(set(own) & set(loaded))} of {len(own)} weights',
        'current',
    )


def compare_states(own, loaded):
    """Compares the names and shapes of two state dicts.

    Args:
        own (dict[str, Tensor]): Of the network.
        loaded (dict[str, Tensor]): What is to be loaded into it.

    Returns:
        dict[str, list[str]]: What is 'of another shape' (names with both
        shapes), 'missing' and 'unexpected' in ``loaded``.
    """
    return {
        'of another shape': [
            f'{key} is {tuple(loaded[key].shape)}, not {tuple(own[key].shape)}'
            for key in own
            if key in loaded and loaded[key].shape != own[key].shape
        ],
        'missing': [key for key in own if key not in loaded],
        'unexpected': [key for key in loaded if key not in own],
    }


def describe_differences(differences):
    """Puts what :func:`compare_states` found into words.

    Args:
        differences (dict[str, list[str]]): What differs, by kind.

    Returns:
        str: Counts and the first names, empty if nothing differs.
    """
    return '; '.join(
        f'{len(keys)} {what}: {", ".join(keys[:3])}'
        + (', …' if len(keys) > 3 else '')
        for what, keys in differences.items()
        if keys
    )
