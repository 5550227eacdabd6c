"""Checks the data sets of a config before anything is built from it.

What is wrong with data shows late and without a name in the hosts: a missing
file after the model was built, half an annotation file without its path, a
misspelt class as a silent shift of the labels.
"""

import json
import os
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from xml.etree import ElementTree

from mmengine.registry import DATASETS

HINT = (
    'Point the config elsewhere with the environment variable named in '
    'configs/_base_/datasets/, or with --cfg-options'
)


def check_data(cfg, dataloaders):
    """Checks that the data of a config exist, are whole and fit its classes.

    Local files only, and only in the first process of a distributed run.

    Args:
        cfg (Config): The config of a detector or classifier.
        dataloaders (Sequence[str]): Which of its data loaders to check, e.g.
            ``('train_dataloader', 'val_dataloader')``. Missing ones are fine.

    Raises:
        FileNotFoundError: If a folder or file is not there.
        ValueError: If an annotation file is cut off, a class is not in the
            annotations, or an evaluator reads other annotations.
    """
    if int(os.environ.get('RANK', 0)):
        return
    scope = cfg.get('default_scope', 'mmengine')
    for name in dataloaders:
        if cfg.get(name) is None:
            continue
        datasets = list(_leaf_datasets(cfg[name].dataset))
        for dataset in datasets:
            try:
                _check_dataset(dataset, scope, name.startswith('train'))
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f'{name}: {error}') from None
        evaluator = cfg.get(name.replace('dataloader', 'evaluator'))
        if name != 'train_dataloader' and len(datasets) == 1:
            _check_evaluator(name, datasets[0], evaluator)


def _leaf_datasets(dataset):
    """Yields the data sets inside wrappers like RepeatDataset."""
    if 'dataset' in dataset:
        yield from _leaf_datasets(dataset['dataset'])
    elif 'datasets' in dataset:
        for child in dataset['datasets']:
            yield from _leaf_datasets(child)
    else:
        yield dataset


def _check_dataset(dataset, scope, training):
    root = dataset.get('data_root') or ''
    if '://' in root:
        return
    if root and not Path(root).is_dir():
        raise FileNotFoundError(f'data_root {root!r} is no folder. {HINT}')
    prefixes = dataset.get('data_prefix') or {}
    if isinstance(prefixes, str):  # MMPretrain allows both
        prefixes = dict(img_path=prefixes)
    for key, prefix in prefixes.items():
        path = Path(root, prefix or '')
        if not path.is_dir():
            raise FileNotFoundError(f'{key} folder {str(path)!r} not found')
    if not dataset.get('ann_file'):
        return
    ann_file = Path(root, dataset['ann_file'])
    if not ann_file.is_file():
        raise FileNotFoundError(
            f'ann_file {str(ann_file)!r} not found. {HINT}'
        )
    classes = _classes(dataset, scope)
    if ann_file.suffix == '.json':
        _check_coco(ann_file, classes)
    elif ann_file.suffix == '.txt' and classes:
        folder = Path(
            root,
            prefixes.get('sub_data_root', ''),
            dataset.get('ann_subdir', 'Annotations'),
        )
        if folder.is_dir():
            _check_voc(ann_file, folder, classes, training)


def _classes(dataset, scope):
    """The class names of the config, or else of the data set's type."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        with DATASETS.switch_scope_and_registry(scope) as registry:
            cls = registry.get(dataset['type'])
        classes = getattr(cls, 'METAINFO', {}).get('classes')
    if isinstance(classes, str) and not Path(classes).is_file():
        raise ValueError(
            f'classes={classes!r} is a string; one class is ({classes!r},)'
        )
    return None if isinstance(classes, str) else classes


def _check_coco(ann_file, classes):
    try:
        content = json.loads(ann_file.read_text(encoding='utf-8-sig'))
    except ValueError as error:
        raise ValueError(
            f'{str(ann_file)!r} is not whole JSON, cut off or damaged: {error}'
        ) from None
    if not isinstance(content, dict) or 'images' not in content:
        return  # not COCO's format
    for key in ('annotations', 'categories'):
        if key not in content:
            raise ValueError(f'{str(ann_file)!r} has no {key!r}')
    names = [category['name'] for category in content['categories']]
    _check_names(classes or (), names, ann_file)


def _check_voc(ann_file, folder, classes, training):
    counts = Counter()
    for name in ann_file.read_text().split():
        path = folder / f'{name}.xml'
        try:
            tree = ElementTree.parse(path)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{str(path)!r}, listed in {str(ann_file)!r}, not found'
            ) from None
        except ElementTree.ParseError as error:
            raise ValueError(
                f'{str(path)!r} is not whole XML, cut off or damaged: {error}'
            ) from None
        counts.update(node.text for node in tree.iterfind('object/name'))
    # a small test set need not show every class
    if training:
        _check_names(classes, counts, ann_file)


def _check_names(classes, names, ann_file):
    missing = [name for name in classes if name not in names]
    if missing:
        close = get_close_matches(missing[0], names, 1)
        hint = f' (did you mean {close[0]!r}?)' if close else ''
        raise ValueError(
            f'class {missing[0]!r} is not in {str(ann_file)!r}{hint}, which '
            f'has {", ".join(sorted(names))}; {len(missing)} of the '
            f'{len(classes)} classes are missing'
        )


def _check_evaluator(name, dataset, evaluator):
    evaluators = evaluator if isinstance(evaluator, list) else [evaluator]
    ann_file = Path(
        dataset.get('data_root') or '', dataset.get('ann_file', '')
    )
    for metric in evaluators:
        other = (metric or {}).get('ann_file')
        if other and os.path.normpath(other) != os.path.normpath(ann_file):
            raise ValueError(
                f'{name}: the data set reads {str(ann_file)!r}, but its '
                f'evaluator {other!r}'
            )
