"""The check of a config's data: what is there, and what suits it."""

import os
import warnings
from pathlib import Path

from mmengine.registry import DATASETS

from .class_folders import check_class_folders, list_folders
from .coco import check_coco, read_json
from .image_list import check_image_list
from .voc import check_voc

HINT = (
    'Point the config elsewhere with the environment variable named in '
    'configs/_base_/datasets/, or with --cfg-options'
)


def check_data(cfg, dataloaders):
    """Checks that the data of a config exist, are whole and fit its classes.

    Local files only, and only in the first process of a distributed run. What
    the hosts leave out without a word is told in a warning. Images are looked
    for but not opened, which would take too long.

    Args:
        cfg (Config): The config of a detector or classifier.
        dataloaders (Sequence[str]): Which of its data loaders to check, e.g.
            ``('train_dataloader', 'val_dataloader')``. Missing ones are fine.

    Raises:
        FileNotFoundError: If a folder, a file or a listed image is not there.
        ValueError: If an annotation file is cut off or contradicts itself, a
            class is not in the annotations, an evaluator reads other
            annotations, or folders of classes differ from those of training.
    """
    if int(os.environ.get('RANK', 0)):
        return
    scope = cfg.get('default_scope', 'mmengine')
    folders = _training_folders(cfg, scope)
    for name in dataloaders:
        if cfg.get(name) is None:
            continue
        datasets = list(_leaf_datasets(cfg[name].dataset))
        evaluator = cfg.get(name.replace('dataloader', 'evaluator'))
        labelled = not only_formats(evaluator)
        for dataset in datasets:
            try:
                remarks = _check_dataset(
                    dataset, scope, name.startswith('train'), folders, labelled
                )
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f'{name}: {error}') from None
            for remark in remarks:
                warnings.warn(f'{name}: {remark}', stacklevel=2)
        if name != 'train_dataloader' and len(datasets) == 1:
            _check_evaluator(name, datasets[0], evaluator)


def only_formats(evaluator):
    """Whether an evaluator only writes results, for a server to evaluate.

    Args:
        evaluator (dict | list[dict] | None): Config of the evaluator.

    Returns:
        bool: Whether one of its metrics has ``format_only``.
    """
    evaluators = evaluator if isinstance(evaluator, list) else [evaluator]
    return any((metric or {}).get('format_only') for metric in evaluators)


def _leaf_datasets(dataset):
    """Yields the data sets inside wrappers like RepeatDataset."""
    if 'dataset' in dataset:
        yield from _leaf_datasets(dataset['dataset'])
    elif 'datasets' in dataset:
        for child in dataset['datasets']:
            yield from _leaf_datasets(child)
    else:
        yield dataset


def _class_folder(dataset, scope):
    """Where a data set has a folder for each class, or ``None``."""
    if dataset.get('ann_file') or not dataset.get('with_label', True):
        return None
    prefix = dataset.get('data_prefix') or ''
    custom = _reads_as(_find_class(dataset, scope), 'CustomDataset')
    if not custom or '://' in str(prefix):
        return None
    if not isinstance(prefix, str):
        prefix = prefix.get('img_path', '')
    return Path(dataset.get('data_root') or '', prefix)


def _training_folders(cfg, scope):
    """The names of the class folders of the first training set, if any."""
    if cfg.get('train_dataloader') is None:
        return None
    dataset = next(_leaf_datasets(cfg.train_dataloader.dataset))
    folder = _class_folder(dataset, scope)
    return list_folders(folder) if folder and folder.is_dir() else None


def _check_dataset(dataset, scope, training, folders, labelled):
    """Checks one data set and returns what there is to remark."""
    root = dataset.get('data_root') or ''
    if '://' in root:
        return []
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
        folder = _class_folder(dataset, scope)
        if folder:
            classes = _classes(dataset, _find_class(dataset, scope))
            check_class_folders(folder, classes, folders)
        return []
    ann_file = Path(root, dataset['ann_file'])
    if not ann_file.is_file():
        raise FileNotFoundError(
            f'ann_file {str(ann_file)!r} not found. {HINT}'
        )
    cls = _find_class(dataset, scope)
    classes = _classes(dataset, cls)
    if _reads_as(cls, 'XMLDataset') and classes:
        folder = Path(root, prefixes.get('sub_data_root', ''))
        return check_voc(ann_file, folder, classes, dataset, training)
    if _reads_as(cls, 'CustomDataset'):
        folder = Path(root, prefixes.get('img_path', ''))
        return check_image_list(ann_file, folder, classes, dataset)
    if ann_file.suffix == '.json':
        content = read_json(ann_file)
        if not labelled and isinstance(content, dict):
            content.setdefault('annotations', [])
        # a host's own reader of COCO's format, or a relative of it
        folder = None
        if _reads_as(cls, 'CocoDataset'):
            folder = Path(root, prefixes.get('img', ''))
        return check_coco(
            content, ann_file, folder, classes, dataset, training
        )
    return []


def _find_class(dataset, scope):
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(dataset['type'])


def _reads_as(cls, name):
    """Whether a data set reads its files as the host's class ``name``."""
    readers = ('load_data_list', 'parse_data_info')
    owners = {
        getattr(cls, reader).__qualname__.split('.')[0]
        for reader in readers
        if hasattr(cls, reader)
    }
    return name in owners and owners <= {name, 'BaseDataset'}


def _classes(dataset, cls):
    """The class names of the config, or else of the data set's type."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = getattr(cls, 'METAINFO', {}).get('classes')
    if isinstance(classes, str) and not Path(classes).is_file():
        raise ValueError(
            f'classes={classes!r} is a string; one class is ({classes!r},)'
        )
    return None if isinstance(classes, str) else classes


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
