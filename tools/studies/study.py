"""What a study is: variants of a training, each with several seeds.

A study is a YAML file, see docs/study.md; its name is that of the file. What
it says goes over what its ``_base_`` says, if it names one. Each finished
run, a variant with a seed, is a small JSON file, its record.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Metric:
    """A metric of the host, and how it is shown."""

    name: str  #: as in the log, e.g. 'accuracy/top1'
    label: str = ''  #: in tables and figures, unit included; or the name
    scale: float = 1  #: factor to the unit of the label

    def __post_init__(self):
        self.label = self.label or self.name


@dataclass
class Variant:
    """A row of the table; what it lacks is the study's."""

    name: str  #: its key in the study, and the folder of its records
    label: str = ''  #: in tables and figures; or the name
    config: str = ''
    options: dict = field(default_factory=dict)  #: besides the study's
    seeds: list = field(default_factory=list)
    reference: str = ''
    #: those of the study that the trained network is tested with, besides
    #: its last validation
    evaluations: list = field(default_factory=list)
    #: another study that has trained the variant of this name: nothing is
    #: run, its records are read
    records_of: str = ''


@dataclass
class Study:
    """A study file."""

    name: str  #: its stem
    title: str  #: in one line
    metrics: dict  #: Metric by name; the first is the most important one
    variants: dict  #: Variant by name, in the order of the table
    seeds: list
    reference: str  #: the variant that others are compared with
    config: str = ''  #: relative to the repository
    options: dict = field(default_factory=dict)  #: what --cfg-options set
    #: label and options of what a trained network can be tested with, by name
    evaluations: dict = field(default_factory=dict)
    #: a config: every network starts with the weights that this one has with
    #: the same seed, as far as names and shapes agree; or each draws its own
    start: str | None = None
    #: the seed whose checkpoints stay when a run is finished
    keep_seed: int | None = None

    def __post_init__(self):
        self.metrics = [
            Metric(name, **(shown or {}))
            for name, shown in self.metrics.items()
        ]
        self.variants = {
            name: Variant(name, **(entry or {}))
            for name, entry in self.variants.items()
        }
        for variant in self.variants.values():
            variant.label = variant.label or variant.name
            variant.config = variant.config or self.config
            variant.options = {**self.options, **variant.options}
            variant.seeds = variant.seeds or self.seeds
            variant.reference = variant.reference or self.reference
            unknown = {variant.reference} - {*self.variants}
            unknown |= {*variant.evaluations} - {*self.evaluations}
            if unknown:
                raise ValueError(
                    f'{variant.name!r} has {", ".join(sorted(unknown))}, '
                    'which the study does not define'
                )
            if not variant.config and not variant.records_of:
                raise ValueError(f'{variant.name!r} has no config')

    def list_runs(self) -> list[tuple[Variant, int]]:
        """Lists the runs, all variants with one seed before the next seed."""
        own = [v for v in self.variants.values() if not v.records_of]
        seeds = sorted({seed for variant in own for seed in variant.seeds})
        return [(v, seed) for seed in seeds for v in own if seed in v.seeds]


def load_study(path: str | Path) -> Study:
    """Reads a study, with defaults filled in.

    Raises:
        ValueError: If it is no study, or contradicts itself.
    """
    path = Path(path)
    try:
        return Study(name=path.stem, **_read(path))
    except (AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f'{path}: {error}') from None


def _read(path):
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    base = content.pop('_base_', None)
    return _lay(content, _read(path.parent / base)) if base else content


def _lay(content, base):
    """Lays a dict over another one, and so the dicts in it."""
    both = dict(base)
    for key, value in content.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        both[key] = _lay(value, base[key]) if nested else value
    return both


def record_path(
    results: str | Path, study: Study, variant: Variant, seed: int
) -> Path:
    """Says where the record of a run is, below the folder of all records."""
    folder = variant.records_of or study.name
    return Path(results, folder, variant.name, f'seed{seed}.json')


def describe_training(study: Study, variant: Variant) -> dict:
    """What decides how a variant is trained besides the seed, for records."""
    return dict(
        config=variant.config, options=variant.options, start=study.start
    )


def read_records(
    results: str | Path, study: Study
) -> dict[str, dict[int, dict]]:
    """Reads the records of a study by variant and seed, as far as they are.

    Raises:
        ValueError: If a record is of another training than the study's.
    """
    records = {}
    for variant in study.variants.values():
        records[variant.name] = found = {}
        for seed in variant.seeds:
            path = record_path(results, study, variant, seed)
            if not path.is_file():
                continue
            found[seed] = json.loads(path.read_text(encoding='utf-8'))
            training = describe_training(study, variant)
            if not variant.records_of and any(
                found[seed][key] != value for key, value in training.items()
            ):
                raise ValueError(
                    f'the record of {variant.name!r}, seed {seed}, is of '
                    'another training than the study describes'
                )
    return records
