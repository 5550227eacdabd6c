"""Makes table and figure of a study from its records.

The table is printed, or written into a page between two lines that name the
study. The figure goes beside the records.
"""

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from comparison import chance, compare, pool, summarise
from figure import MINUS, draw
from study import ROOT, Study, Variant, load_study, read_records

from mmba2m.inspect.pages import replace_section


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('studies', nargs='+', type=Path, help='study files')
    text = 'folder of the records, docs/studies by default'
    add('--results', type=Path, default=ROOT / 'docs/studies', help=text)
    add('--page', type=Path, help='page whose tables are written anew')
    text = (
        'print the median over seeds of each best epoch, as the BA²M paper '
        'reports: what is chosen on the test set is too high'
    )
    add('--best-epoch', action='store_true', help=text)
    args = parser.parse_args(argv)
    if args.best_epoch and args.page:
        parser.error('--best-epoch is printed, and written into no page')
    return args


@dataclass
class Row:
    """A row of the table: a variant, or one of its evaluations."""

    label: str
    variant: Variant
    evaluation: str | None  #: its name; None for the last validation
    #: by metric and seed, in the unit of the metric's label
    values: dict[str, dict[int, float]]
    #: likewise, those to compare with; None for the reference itself
    reference: dict[str, dict[int, float]] | None = None
    #: of each seed whose record has it: parameters, multiply-adds, time
    costs: dict[int, dict] = field(default_factory=dict)
    reference_costs: dict[int, dict] = field(default_factory=dict)


def collect_rows(
    study: Study, records: dict[str, dict[int, dict]], best: bool = False
) -> list[Row]:
    """Collects the rows of the table from what ``read_records`` has read.

    Args:
        study: The study.
        records: Its records, by variant and seed.
        best: Whether to take each run's best validation instead of its last.
            Other evaluations are of the last. Defaults to False.
    """
    rows = []
    for variant in study.variants.values():
        own = [] if variant.records_of else variant.evaluations
        for name in (None, *own):
            label, values = variant.label, {m.name: {} for m in study.metrics}
            if name is not None:
                label += f'; {study.evaluations[name].get("label", name)}'
            for seed, record in records[variant.name].items():
                found = record['metrics']
                if name is not None:
                    found = record['evaluations'][name]
                elif best:
                    steps = record['by_step'].items()
                    found = {key: max(s.values()) for key, s in steps}
                for metric in study.metrics:
                    value = metric.scale * found[metric.name]
                    values[metric.name][seed] = value
            row = Row(label, variant, name, values)
            if name is None:
                row.costs = {
                    seed: record['cost']
                    for seed, record in records[variant.name].items()
                    if 'cost' in record
                }
            rows.append(row)
    trained = {row.variant.name: row for row in rows if not row.evaluation}
    for row in rows:
        reference = trained[row.variant.reference]
        row.reference = None if row is reference else reference.values
        row.reference_costs = reference.costs
    return rows


def format_table(study: Study, rows: list[Row], best: bool = False) -> str:
    """Writes the table in Markdown, of medians if ``best``."""
    heads = ['variant', 'seeds']
    kind = 'median of the best epochs' if best else 'mean ± std'
    for metric in study.metrics:
        heads += [f'{metric.label}: {kind}', 'difference, 95 % interval']
    costly = any(row.costs for row in rows if row.reference is None)
    if costly:
        heads += ['parameters', 'multiply-adds of backbone and neck, 10⁶']
        heads += ['training step']
    table = [heads, ['---'] * len(heads)]
    for row in rows:
        found = len(row.values[study.metrics[0].name])
        planned = len(row.variant.seeds)
        cells = [row.label, f'{found}' + f' of {planned}' * (found < planned)]
        for name, values in row.values.items():
            middle = f'{median(values.values()):.2f}' if values else '–'
            cells += [middle if best else format_mean(values), '']
            if row.reference is not None:
                cells[-1] = format_difference(values, row.reference[name])
        if costly:
            cells += format_cost(row)
        table.append(cells)
    # not padded as a library's: a cell that changes is to change one line
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in table)


def format_cost(row: Row) -> list[str]:
    """Writes parameters, multiply-adds of an image, and time of a step.

    Those of the reference itself, of others what they add. The time is that
    of the median seed beside the reference's, as some seeds may have run on
    a busy machine, or on a faster one.
    """
    own, other = row.costs, row.reference_costs
    if not own or (row.reference is not None and not other):
        return ['–'] * 3
    cost = next(iter(own.values()))
    sign, base = '', dict(parameters=0, multiply_adds=0)
    ratio = '1'
    if row.reference is not None:
        sign, base = '+', next(iter(other.values()))
        times = [
            median(cost['iteration_seconds'] for cost in costs.values())
            for costs in (own, other)
        ]
        ratio = f'{times[0] / times[1]:.2f} ×'
    parameters = cost['parameters'] - base['parameters']
    added = (cost['multiply_adds'] - base['multiply_adds']) / 1e6
    return [f'{parameters:{sign},}', f'{added:{sign},.1f}', ratio]


def format_mean(values: dict[int, float]) -> str:
    """Writes mean and standard deviation, as far as there are values."""
    if not values:
        return '–'
    mean, deviation = summarise(list(values.values()))
    return f'{mean:.2f}' + ('' if deviation is None else f' ± {deviation:.2f}')


def format_difference(
    values: dict[int, float], reference: dict[int, float]
) -> str:
    """Writes a difference with its interval, as far as seeds are shared."""
    compared = compare(values, reference)
    if compared is None:
        return '–'
    mean, half, differences = compared
    if half is None:
        return f'{_signed(mean)} (1 seed)'
    interval = f'{_signed(mean - half)} to {_signed(mean + half)}'
    count = len(differences)
    fewer = count < max(len(values), len(reference))
    return f'{_signed(mean)} ({interval})' + f', {count} seeds' * fewer


def _signed(value):
    text = f'{value:+.2f}'
    return '0.00' if float(text) == 0 else text.replace('-', MINUS)


def format_chance(study: Study, rows: list[Row]) -> str:
    """Says what chance makes of a mean, by the spread of all rows together.

    It is less uncertain than the spread of a row's own few seeds, if the rows
    are equally noisy. Empty with less than ten degrees of freedom.
    """
    trained = [row.values for row in rows if not row.evaluation]
    names, spreads, limits = [], [], []
    for metric in study.metrics:
        samples = [[*values[metric.name].values()] for values in trained]
        deviation, degrees = pool(samples)
        if degrees < 10:
            return ''
        names.append(metric.label.partition(',')[0])
        spreads.append(f'{deviation:.2f}')
        limits.append(f'{chance(deviation, degrees, len(study.seeds)):.2f}')
    return (
        f'The rows together: one run has a standard deviation of '
        f'{_enumerate(spreads)} ({_enumerate(names)}; {degrees} degrees of '
        f'freedom). So by chance alone two means of {len(study.seeds)} seeds '
        f'differ by up to {_enumerate(limits)} in 95 % of cases.'
    )


def format_findings(study: Study, rows: list[Row]) -> str:
    """Names the rows that differ from the reference and from its repetition.

    The repetition is the variant whose name ends in ``_again``; empty where
    there is none with values. Intervals are of 95 %, by seed.
    """
    trained = {row.variant.name: row for row in rows if not row.evaluation}
    parts, possible = [], False
    for metric in study.metrics:
        found = []
        for row in trained.values():
            again = trained.get(f'{row.variant.reference}_again')
            if row.reference is None or again in (None, row):
                continue
            others = row.reference[metric.name], again.values[metric.name]
            sides = [compare(row.values[metric.name], own) for own in others]
            if None in sides or None in (sides[0][1], sides[1][1]):
                continue
            possible = True
            signs = {(mean > 0) - (mean < 0) for mean, *_ in sides}
            if len(signs) == 1 and all(abs(m) > half for m, half, _ in sides):
                found.append(f'{row.label} {_signed(sides[0][0])}')
        name = metric.label.partition(',')[0]
        parts.append(f'{name}: {", ".join(found) or "none"}')
    if not possible:
        return ''
    return (
        'Intervals by seed that leave out 0 both against the reference and '
        f'against its repetition (difference to the reference): '
        f'{"; ".join(parts)}.'
    )


def _enumerate(words):
    return ' and '.join(filter(None, [', '.join(words[:-1]), words[-1]]))


def format_section(
    study: Study, rows: list[Row], folder: str | None = None
) -> str:
    """Writes table, what can be said, and the figure of a folder."""
    parts = [format_table(study, rows), format_findings(study, rows)]
    parts.append(format_chance(study, rows))
    if folder and any(any(row.values.values()) for row in rows):
        parts.append(f'![{study.title}: each seed]({folder}/figure.png)')
    return '\n\n'.join(filter(None, parts))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    for path in args.studies:
        study = load_study(path)
        records = read_records(args.results, study)
        if args.best_epoch:
            rows = collect_rows(study, records, best=True)
            print(f'{study.title}\n\n{format_table(study, rows, best=True)}\n')
            continue
        rows = collect_rows(study, records)
        folder = args.results / study.name
        drawn = draw(study.metrics, rows, folder / 'figure.png')
        if args.page is None:
            print(f'{study.title}\n\n{format_section(study, rows)}\n')
        else:
            relative = Path(os.path.relpath(folder, args.page.parent))
            section = format_section(study, rows, relative.as_posix())
            page = args.page.read_text(encoding='utf-8')
            page = replace_section(
                page, f'<!-- study: {study.name} -->', section
            )
            args.page.write_text(page, encoding='utf-8')
        if drawn:
            print(f'figure: {folder}/figure.png')
        else:
            print(f'{study.name} has no records yet')


if __name__ == '__main__':
    main()
