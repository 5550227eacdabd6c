"""What a study is: variants of a training, each with several seeds.

A study is a YAML file, see docs/study.md; as a config, it may have a
``_base_``. Its name is that of the file. Each finished run, a variant with a
seed, is a small JSON file, its record.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Metric:
    """A metric of the host, and how it is shown.

    Args:
        name (str): As in the log, e.g. 'accuracy/top1'.
        label (str | None): In tables and figures, unit included. Defaults to
            the name.
        scale (float): Factor to the unit of the label. Defaults to 1.
    """

    name: str
    label: str = None
    scale: float = 1

    def __post_init__(self):
        self.label = self.label or self.name


@dataclass
class Data:
    """Where the data lie, to say so before the first run fails.

    Args:
        variable (str): Environment variable that the configs read.
        default (str): Folder where it is not set, relative to the
            repository.
        folders (Sequence[str]): What must be in it.
        get (str): How to get there what is missing, a command.
    """

    variable: str
    default: str
    folders: list
    get: str


@dataclass
class Variant:
    """A row of the table, and the runs that make it.

    Args:
        name (str): Its key in the study, and folder of its records.
        label (str | None): In tables and figures. Defaults to the name.
        config (str | None): Config, relative to the repository. Defaults to
            the study's.
        options (dict): What ``--cfg-options`` set, with the study's.
        seeds (list[int] | None): Defaults to the study's.
        reference (str | None): The variant that it is compared with.
            Defaults to the study's.
        evaluations (list[str]): Those of the study's evaluations that the
            trained network has besides its last validation.
        records_of (str | None): Another study that has trained the variant
            of this name: nothing is run, its records are read.
    """

    name: str
    label: str = None
    config: str = None
    options: dict = field(default_factory=dict)
    seeds: list = None
    reference: str = None
    evaluations: list = field(default_factory=list)
    records_of: str = None

    def __post_init__(self):
        self.label = self.label or self.name


@dataclass
class Study:
    """A study file.

    Args:
        name (str): Its stem.
        title (str): In one line.
        metrics (list[Metric]): The first is the most important one.
        variants (dict[str, Variant]): In the order of the table.
        seeds (list[int]): Of every variant that has none of its own.
        reference (str): The variant that others are compared with.
        config (str | None): Config of every variant that has none.
        options (dict): ``--cfg-options`` of every run.
        evaluations (dict[str, dict]): ``label`` and ``options`` of what a
            trained network can be tested with, by name.
        order (list[list[str]]): Groups of variants: within a group all have
            had a seed before any has the next one. Defaults to one group.
        start (str | None): A config: every network starts with the weights
            that this one has with the same seed, as far as names and shapes
            agree. Defaults to none: each draws its own.
        keep_seed (int | None): The seed whose checkpoints stay. Defaults to
            none: they are deleted when a run is finished.
        data (Data | None): What is checked before anything runs.
        note (str | None): Printed under the table.
    """

    name: str
    title: str
    metrics: list
    variants: dict
    seeds: list
    reference: str
    config: str = None
    options: dict = field(default_factory=dict)
    evaluations: dict = field(default_factory=dict)
    order: list = None
    start: str = None
    keep_seed: int = None
    data: Data = None
    note: str = None

    def __post_init__(self):
        self.metrics = [
            Metric(name=name, **(shown or {}))
            for name, shown in self.metrics.items()
        ]
        self.variants = {
            name: Variant(name=name, **(entry or {}))
            for name, entry in self.variants.items()
        }
        if self.data is not None:
            self.data = Data(**self.data)
        for variant in self.variants.values():
            variant.config = variant.config or self.config
            variant.options = {**self.options, **variant.options}
            variant.seeds = variant.seeds or self.seeds
            variant.reference = variant.reference or self.reference
            self._check(variant)
        own = [v.name for v in self.variants.values() if not v.records_of]
        self.order = self.order or [own]
        listed = [name for group in self.order for name in group]
        if sorted(listed) != sorted(own):
            raise ValueError(
                f'order has {sorted(listed)}, but the variants to run are '
                f'{sorted(own)}'
            )

    def _check(self, variant):
        if variant.reference not in self.variants:
            raise ValueError(
                f'the reference {variant.reference!r} of {variant.name!r} is '
                f'none of the variants {list(self.variants)}'
            )
        unknown = [e for e in variant.evaluations if e not in self.evaluations]
        if unknown:
            raise ValueError(
                f'{variant.name!r} has evaluations {unknown} that the study '
                'does not define'
            )
        if variant.records_of is None and variant.config is None:
            raise ValueError(f'{variant.name!r} has no config')

    def list_runs(self):
        """Lists the runs as pairs of variant and seed, in their order."""
        runs = []
        for group in self.order:
            variants = [self.variants[name] for name in group]
            seeds = sorted({seed for v in variants for seed in v.seeds})
            runs += [
                (variant, seed)
                for seed in seeds
                for variant in variants
                if seed in variant.seeds
            ]
        return runs


def load_study(path):
    """Reads a study.

    Args:
        path (str | Path): The YAML file.

    Returns:
        Study: With defaults filled in.

    Raises:
        ValueError: If it is no study, or contradicts itself.
    """
    path = Path(path)
    try:
        content = Config.fromfile(path).to_dict()
        return Study(name=path.stem, **content)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from None


def record_path(results, study, variant, seed):
    """Says where the record of a run is.

    Args:
        results (str | Path): Folder of all studies' records.
        study (Study): The study.
        variant (Variant): The variant.
        seed (int): The seed.

    Returns:
        Path: Of a JSON file.
    """
    folder = variant.records_of or study.name
    return Path(results, folder, variant.name, f'seed{seed}.json')


def describe_training(study, variant):
    """What decides how a variant is trained, besides the seed.

    Args:
        study (Study): The study.
        variant (Variant): One of its variants.

    Returns:
        dict: For a record.
    """
    return dict(
        config=variant.config, options=variant.options, start=study.start
    )


def read_records(results, study):
    """Reads the records of a study, as far as they are there.

    Args:
        results (str | Path): Folder of all studies' records.
        study (Study): The study.

    Returns:
        dict[str, dict[int, dict]]: Records by variant and seed.
    """
    return {
        variant.name: {
            seed: json.loads(path.read_text(encoding='utf-8'))
            for seed in variant.seeds
            if (path := record_path(results, study, variant, seed)).is_file()
        }
        for variant in study.variants.values()
    }
