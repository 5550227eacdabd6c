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


def each(kind, **values):
    """Sets keys of all entries; a function is of the old value."""

    def change(content):
        for entry in content[kind]:
            for key, value in values.items():
                call = callable(value)
                entry[key] = value(entry.get(key)) if call else value

    return change


def drop(kind, key):
    return lambda content: [entry.pop(key) for entry in content[kind]]


def repeat_id(kind):
    def change(content):
        content[kind][1]['id'] = content[kind][0]['id']

    return change


def as_corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def split_image(content):
    """The last image once more, with the last of its objects."""
    image = content['images'][-1]
    folder = 'train2017' if image['id'] < 100_000 else 'val2017'
    copy = dict(image, id=900, file_name=f'../{folder}/{image["file_name"]}')
    content['images'].append(copy)
    own = [a for a in content['annotations'] if a['image_id'] == image['id']]
    own[-1]['image_id'] = 900


def repeat_image(content):
    image = content['images'][-1]
    content['images'].append(dict(image, id=900))
    content['annotations'] += [
        dict(box, id=-box['id'], image_id=900)
        for box in content['annotations']
        if box['image_id'] == image['id']
    ]


def add_class(content):
    content['categories'].append(dict(id=9, name='circle'))
