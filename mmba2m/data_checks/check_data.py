"""The check of a config's data: what is there, what the host makes of it."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from .classification import (
    check_class_folders,
    check_image_list,
    list_folders,
)
from .coco import check_coco, read_json
from .common import Finding
from .datasets import leaf_datasets, list_metrics, name_type, open_data
from .heads import check_heads, find_heads
from .schedule import check_schedule
from .voc import check_voc

HINT = (
    'Point the config elsewhere with the environment variable named in '
    'configs/_base_/datasets/, or with --cfg-options'
)


def check_data(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Checks that the data of a config exist, are whole and fit its classes.

    Local files only, and only in the first process of a distributed run;
    ``data_checks = False`` in the config switches it off. What the hosts
    leave out without a word is told in a warning. Images are looked for but
    not opened, which would take too long.

    Args:
        cfg: The config of a detector or classifier.
        dataloaders: Which of its data loaders to check, e.g.
            ``('train_dataloader', 'val_dataloader')``. Missing ones are fine.

    Raises:
        FileNotFoundError: If a folder, a file or a listed image is not there.
        ValueError: If an annotation file is cut off or contradicts itself, if
            labels would mean something else than the config's classes, or if
            nothing is left to train on or to find.
    """
    first = not int(os.environ.get('RANK', 0)) and is_main_process()
    if not first or cfg.get('data_checks') is False:
        return
    for name, finding in find_problems(cfg, dataloaders):
        if isinstance(finding, Exception):
            raise type(finding)(f'{name}: {finding}') from None
        warnings.warn(f'{name}: {finding}', stacklevel=2)


def find_problems(
    cfg: Config, dataloaders: Sequence[str], seen: list | None = None
) -> Iterator[tuple[str, Finding]]:
    """Yields data loaders with what is wrong with them.

    In ``seen``, if given, each data set is noted, and all in it is counted.
    """
    checks = _Checks(cfg, seen)
    for name in dataloaders:
        if cfg.get(name) is None:
            continue
        try:
            for finding in checks.check_loader(name):
                yield name, finding
        except (FileNotFoundError, ValueError) as error:
            yield name, error


class _Checks:
    """The checks of one config, which compare its data sets."""

    def __init__(self, cfg, seen):
        self.cfg, self.seen = cfg, seen
        self.scope = cfg.get('default_scope', 'mmengine')
        self.order = None  # of the categories in a file that was checked
        self.train = self.folders = None
        if cfg.get('train_dataloader') is None:
            return
        try:
            config, _ = next(leaf_datasets(cfg.train_dataloader.dataset))
            self.train = open_data(config, self.scope, True)
        except (FileNotFoundError, ValueError, StopIteration):
            return  # told when that loader is checked
        folder = self.train and _class_folder(self.train)
        if folder and folder.is_dir():
            self.folders = list_folders(folder)

    def check_loader(self, name):
        cfg, training = self.cfg, name.startswith('train')
        evaluator = cfg.get(name.replace('dataloader', 'evaluator'))
        metrics = [] if training else list_metrics(evaluator)
        separate = name_type(evaluator).startswith('MultiDatasets')
        thorough = self.seen is not None
        counts, opened = [], []
        leaves = list(leaf_datasets(cfg[name].dataset))
        for index, (config, times) in enumerate(leaves):
            own = metrics[index : index + 1] if separate else metrics
            data = open_data(config, self.scope, training, own, thorough)
            if data is None:
                counts.append(None)
                continue
            opened.append(data)
            if training and len(leaves) > 1 and _has_targets(data):
                data.targets = {}
            if thorough:
                self.seen.append((name, data))
            yield from self._check_data(data)
            counts.append(data.items and times * data.items)
        if training:
            _check_shared(opened)
        else:
            yield from _check_evaluator(opened, separate)
        if None not in counts:
            yield from check_schedule(cfg, cfg[name], sum(counts), training)

    def _check_data(self, data):
        self.content, failed = None, False
        for finding in self._check_files(data):
            yield finding
            failed |= isinstance(finding, Exception)
        if failed:
            return
        own = data.reads_as('CocoDataset') or data.reads_as('XMLDataset')
        if own and data.listed:
            yield from _check_targets(data, self.content)
        classes = data.classes or self.folders
        if not classes or data.config.get('return_classes'):
            return
        yield from check_heads(self.cfg.get('model') or {}, classes)
        known = self.train and self.train.classes
        if known and data.classes and data.classes != known:
            yield ValueError(
                f'its classes are {", ".join(data.classes)}, but those of the '
                f'training set {", ".join(known)}, so labels would differ'
            )

    def _check_files(self, data):
        if not data.is_local:
            return
        if data.has_local_images:
            _check_folders(data)
        if folder := _class_folder(data):
            check_class_folders(data, folder, self.folders)
        if not data.host.ann_file:
            return
        if not data.file.is_file():
            raise FileNotFoundError(f'ann_file {data.name} not found. {HINT}')
        if data.reads_as('CustomDataset'):
            heads = find_heads(self.cfg.get('model') or {})
            outputs = min((number for _, number in heads), default=None)
            yield from check_image_list(data, outputs)
        elif data.reads_as('XMLDataset'):
            yield from check_voc(data) if data.classes else ()
        elif data.file.suffix == '.json' or data.reads_as('CocoDataset'):
            # a host's own reader of COCO's format, or a relative of it
            self.content = read_json(data.file)
            if not data.labelled and isinstance(self.content, dict):
                self.content.setdefault('annotations', [])
            yield from check_coco(data, self.content, self.order)
            self.order = self.order or data.order


def _check_targets(data, content):
    """Whether something is left of what the host reads."""
    items = data.read(content)
    if not items:
        rules = dict(data.config.get('filter_cfg') or {})
        raise ValueError(
            f'{data.name}: filter_cfg={rules} leaves none of its '
            f'{data.listed} images'
        )
    data.items = len(items)
    data.kept = Counter(
        data.classes[instance['bbox_label']]
        for item in items
        for instance in item['instances']
        if not instance['ignore_flag']
    )
    kept = data.kept.total()
    if data.targets is not None:
        data.targets.update(map(_describe_target, items))
    left = data.objects - data.dropped.total() - kept
    data.dropped['by filters'] = max(left, 0)
    targets = _has_targets(data) if data.training else data.labelled
    if not kept and targets:
        aim = 'train on' if data.training else 'find'
        yield ValueError(
            f'{data.name} has no object to {aim} in {len(items)} images: '
            f'of {data.objects}, {data.describe_dropped()} are left out'
        )


def _has_targets(data):
    """Whether annotations are loaded, not only images, as unlabelled ones."""
    return not data.steps or data.has_step('LoadAnnotations')


def _describe_target(item):
    # not their boxes, which another export may have rounded
    labels = sorted(object_['bbox_label'] for object_ in item['instances'])
    return os.path.normpath(item['img_path']), tuple(labels)


def _check_shared(opened):
    """One image in two data sets is each the other's background."""
    for one, other in combinations([d for d in opened if d.targets], 2):
        shared = one.targets.keys() & other.targets.keys()
        names = [k for k in shared if one.targets[k] != other.targets[k]]
        if names:
            raise ValueError(
                f'{len(names)} images, as {min(names)!r}, are in {one.name} '
                f'and in {other.name} with different objects, so that each '
                'would train the objects of the other as background; put '
                'them into one file'
            )


def _check_folders(data):
    root = data.host.data_root
    if root and not Path(root).is_dir():
        raise FileNotFoundError(f'data_root {root!r} is no folder. {HINT}')
    for key, prefix in data.host.data_prefix.items():
        if not Path(prefix).is_dir():
            raise FileNotFoundError(
                f'{key} folder {str(Path(prefix))!r} not found'
            )


def _class_folder(data):
    """Where a data set has a folder for each class, or ``None``."""
    custom = data.reads_as('CustomDataset') and data.host.with_label
    if custom and not data.host.ann_file and data.has_local_images:
        return data.folder('img_path')
    return None


def _check_evaluator(opened, separate):
    as_one = len(opened) > 1 and not separate
    pairs = [(data, metric) for data in opened for metric in data.metrics]
    for data, metric in pairs:
        other = metric.get('ann_file')
        if other and as_one:
            yield ValueError(
                f'it has {len(opened)} data sets, but the evaluator takes all '
                f'images for those of {other!r}. MultiDatasetsEvaluator has '
                'a metric for each, and dataset_prefixes'
            )
            return
        if other and os.path.normpath(other) != os.path.normpath(data.file):
            yield ValueError(
                f'the data set reads {data.name}, but its evaluator {other!r}'
            )
    if as_one:
        yield f'its {len(opened)} data sets are scored as one'
