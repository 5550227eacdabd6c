"""The data sets of a config, as their classes in the hosts see them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

#: backends whose files are those of this machine
LOCAL = ('local', 'LocalBackend', 'disk', 'HardDiskBackend')


@dataclass
class Data:
    """A data set of a config, built by its class but not read, and counts."""

    config: dict
    scope: str | None
    host: BaseDataset
    training: bool = False
    metrics: Sequence[dict] = ()
    #: whether all is to be counted, however long that takes
    thorough: bool = False
    #: the classes in the order of its file, if that matters
    order: list[str] | None = None
    #: images in the file, and those left; objects in the file
    listed: int = 0
    items: int | None = None
    objects: int | None = None
    #: objects left, by class; those that are not, by the reason
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    #: of each image that is left, the labels, if there are other data sets
    targets: dict[str, tuple[int, ...]] | None = None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, if the config or the host's class has any."""
        classes = self.host.metainfo.get('classes')
        if isinstance(classes, str):
            raise ValueError(
                f'classes={classes!r} is a string; one class is ({classes!r},)'
            )
        return tuple(classes or ())

    @property
    def file(self) -> Path:
        """The file of annotations."""
        return Path(self.host.ann_file)

    @property
    def name(self) -> str:
        """The file of annotations, in quotes."""
        return repr(self.host.ann_file)

    def folder(self, key: str) -> Path:
        """The folder that ``data_prefix`` has for a key."""
        return Path(self.host.data_prefix.get(key) or self.host.data_root)

    @cached_property
    def steps(self) -> list[dict]:
        """The steps of the pipeline that are configs."""
        steps = self.config.get('pipeline') or ()
        return [step for step in steps if isinstance(step, dict)]

    def has_step(self, name: str) -> bool:
        """Whether the pipeline has a step of this type."""
        return any(name_type(step).endswith(name) for step in self.steps)

    @property
    def is_local(self) -> bool:
        """Whether its annotations are files of this machine."""
        return _is_local(self.config, self.host.data_root, self.host.ann_file)

    @property
    def has_local_images(self) -> bool:
        """Whether its images, too, are files of this machine."""
        prefixes = self.host.data_prefix.values()
        steps = all(map(_is_local, self.steps))
        return steps and self.is_local and _is_local({}, *prefixes)

    @property
    def labelled(self) -> bool:
        """Whether its labels are read, not the images alone."""
        return not only_formats(self.metrics)

    def scores(self, metric: str | None = None) -> bool:
        """Whether CocoMetric scores this by a file of its own reading."""
        return any(
            name_type(config).endswith('CocoMetric')
            and config.get('ann_file')
            and not config.get('format_only')
            and (metric is None or metric in config.get('metric', ''))
            for config in self.metrics
        )

    def describe_dropped(self) -> str:
        """Puts into words which objects are left out, and why."""
        reasons = self.dropped.items()
        return ', '.join(f'{n} {why}' for why, n in reasons if n) or '0'

    def reads_as(self, name: str) -> bool:
        """Whether it reads its files as the host's class ``name``."""
        owners = {
            getattr(type(self.host), reader).__qualname__.split('.')[0]
            for reader in ('load_data_list', 'parse_data_info')
        }
        return name in owners and owners <= {name, 'BaseDataset'}

    def read(self, content: dict | None = None) -> list[dict]:
        """Reads and filters the annotations as the host does.

        ``content`` of its COCO file is handed over, not to be read twice.
        """
        cls: Any = type(self.host)
        if content is not None:
            cls = _hand_over(cls, content)
        own = dict(type=cls, pipeline=[], serialize_data=False)
        try:
            return _build({**self.config, **own}, self.scope).data_list
        except Exception as error:
            raise ValueError(
                f'{cls.__name__} cannot read {self.name}: '
                f'{type(error).__name__}: {error}'
            ) from error


def open_data(config: dict, scope: str | None, *args: Any) -> Data | None:
    """Builds a data set unread, or not if its class reads at once."""
    try:
        host = _build({**config, 'pipeline': [], 'lazy_init': True}, scope)
    except (ImportError, TypeError, AttributeError, KeyError):
        return None  # its host will tell
    known = isinstance(host, BaseDataset)
    return Data(config, scope, host, *args) if known else None


def leaf_datasets(dataset: dict, times: int = 1) -> Iterator[tuple[dict, int]]:
    """Yields the data sets inside wrappers, and how often each repeats."""
    if isinstance(dataset, (list, tuple)):
        raise ValueError(
            'its dataset is a list, not a data set; several are '
            "dict(type='ConcatDataset', datasets=[…])"
        )
    if not isinstance(dataset, dict):  # built already
        return
    if 'dataset' in dataset:
        times *= dataset.get('times', 1)
        yield from leaf_datasets(dataset['dataset'], times)
    elif 'datasets' in dataset:
        for child in dataset['datasets']:
            yield from leaf_datasets(child, times)
    else:
        yield dataset, times


def list_metrics(evaluator: dict | Sequence[dict] | None) -> list[dict]:
    """The metrics of an evaluator, whichever way they are written."""
    if isinstance(evaluator, dict):
        evaluator = evaluator.get('metrics', evaluator)
    if isinstance(evaluator, dict):
        return [evaluator]
    return [metric for metric in evaluator or () if isinstance(metric, dict)]


def only_formats(evaluator: dict | Sequence[dict] | None) -> bool:
    """Whether an evaluator only writes results, for a server to evaluate."""
    return any(metric.get('format_only') for metric in list_metrics(evaluator))


def name_type(config: object) -> str:
    """The name of what a config builds, given as a name or as a class."""
    kind = config.get('type', '') if isinstance(config, dict) else ''
    return kind if isinstance(kind, str) else kind.__name__


def _is_local(config, *paths):
    backend = config.get('backend_args') or {}
    local = backend.get('backend', 'local') in LOCAL
    return local and not any('://' in str(path) for path in paths)


def _build(config, scope):
    with (
        DATASETS.switch_scope_and_registry(scope) as registry,
        redirect_stdout(StringIO()),  # pycocotools
    ):
        return registry.build(config)


def _hand_over(cls, content):
    class Reader(cls.COCOAPI):
        def __init__(self, path):
            super().__init__()
            self.dataset = content
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    return type(cls.__name__, (cls,), dict(COCOAPI=Reader))
