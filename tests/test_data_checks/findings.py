"""What the checks say of a config, and changes of annotation files."""

import json
from pathlib import Path

from mmba2m.data_checks.check_data import find_problems

LOADERS = ('train_dataloader', 'val_dataloader')
KINDS = {ValueError: 'E', FileNotFoundError: 'N'}


def say(cfg, loaders=LOADERS):
    """What is found, a line each, as ``E train: …``.

    ``E`` is a ValueError, ``N`` what is not found, ``W`` a warning.
    """
    return '\n'.join(
        f'{KINDS.get(type(found), "W")} {name.split("_")[0]}: {found}'
        for name, found in find_problems(cfg, loaders)
    )


def change_file(dataset, change):
    file = Path(dataset.data_root, dataset.ann_file)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return content


def leaves(cfg):
    return cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset


def first(kind, **values):
    return lambda content: content[kind][0].update(values)


def put(key, value):
    return lambda content: content.update({key: value})


def reverse(content):
    content['categories'].reverse()
