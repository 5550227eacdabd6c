"""Makes table and figure of a study from its records.

The table is printed, or written into a page between two lines that name the
study. The figure goes beside the records, as PNG and PDF.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from comparison import compare, summarise
from study import ROOT, describe_training, load_study, read_records

MINUS = '\N{MINUS SIGN}'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('studies', nargs='+', type=Path, help='study files')
    parser.add_argument(
        '--results',
        type=Path,
        default=ROOT / 'docs/studies',
        help='folder of the records, docs/studies by default',
    )
    parser.add_argument(
        '--page', type=Path, help='page whose tables are written anew'
    )
    return parser.parse_args()


def collect_rows(study, records):
    """Collects the values of each row of the table.

    Args:
        study (Study): The study.
        records (dict[str, dict[int, dict]]): From ``read_records``.

    Returns:
        list[dict]: For each variant, and each of its evaluations: ``label``,
        ``variant``, ``seeds`` (how many there shall be) and ``values``, by
        metric and seed, in the unit of the label.

    Raises:
        ValueError: If a record is of another training than the study's.
    """
    rows = []
    for variant in study.variants.values():
        found = records[variant.name]
        for seed, record in found.items():
            training = describe_training(study, variant)
            if variant.records_of is None and any(
                record[key] != value for key, value in training.items()
            ):
                raise ValueError(
                    f'the record of {variant.name!r}, seed {seed}, is of '
                    'another training than the study describes'
                )
        names = [None]
        if variant.records_of is None:
            names += variant.evaluations
        for name in names:
            label = variant.label
            if name is not None:
                shown = study.evaluations[name].get('label', name)
                label = f'{variant.label}; {shown}'
            values = {
                metric.name: {
                    seed: metric.scale
                    * (
                        record['metrics']
                        if name is None
                        else record['evaluations'][name]
                    )[metric.name]
                    for seed, record in found.items()
                }
                for metric in study.metrics
            }
            rows.append(
                dict(
                    label=label,
                    variant=variant,
                    evaluation=name,
                    seeds=len(variant.seeds),
                    values=values,
                )
            )
    return rows


def format_table(study, rows):
    """Writes the table, and under it what its columns mean.

    Args:
        study (Study): The study.
        rows (list[dict]): From :func:`collect_rows`.

    Returns:
        str: Markdown.
    """
    heads = ['variant', 'seeds']
    for metric in study.metrics:
        heads += [f'{metric.label}: mean ± std', 'difference, 95 % interval']
    lines = [join(heads), join(['---'] * len(heads))]
    trained = {
        row['variant'].name: row for row in rows if row['evaluation'] is None
    }
    for row in rows:
        found = len(row['values'][study.metrics[0].name])
        missing = found < row['seeds']
        cells = [
            row['label'],
            f'{found} of {row["seeds"]}' if missing else f'{found}',
        ]
        reference = trained[row['variant'].reference]
        for metric in study.metrics:
            values = row['values'][metric.name]
            cells.append(format_mean(values))
            cells.append(
                ''
                if row is reference
                else format_difference(
                    values, reference['values'][metric.name]
                )
            )
        lines.append(join(cells))
    return '\n'.join(lines)


def join(cells):
    """Writes a row of a table."""
    return f'| {" | ".join(cells)} |'


def format_mean(values):
    """Writes mean and standard deviation, as far as there are values."""
    if not values:
        return '–'
    mean, deviation = summarise(list(values.values()))
    return f'{mean:.2f}' + ('' if deviation is None else f' ± {deviation:.2f}')


def format_difference(values, reference):
    """Writes a difference with its interval, as far as seeds are shared."""
    compared = compare(values, reference)
    if compared is None:
        return '–'
    mean, half, count = compared
    if half is None:
        return f'{signed(mean)} (1 seed)'
    text = f'{signed(mean)} ({signed(mean - half)} to {signed(mean + half)})'
    if count < len(values) or count < len(reference):
        text += f', {count} seeds'
    return text


def signed(value):
    """Writes a number with its sign, 0 without."""
    text = f'{value:+.2f}'
    if float(text) == 0:
        return '0.00'
    return text.replace('-', MINUS)


def draw(study, rows, out):
    """Draws each seed as a dot, with mean and interval of the difference.

    Args:
        study (Study): The study.
        rows (list[dict]): From :func:`collect_rows`.
        out (Path): Files to write, without suffix: PNG and PDF.

    Returns:
        bool: Whether there was anything to draw.
    """
    trained = {
        row['variant'].name: row for row in rows if row['evaluation'] is None
    }
    rows = [row for row in rows if any(row['values'].values())]
    if not rows:
        return False
    count = len(study.metrics)
    figure, grid = plt.subplots(
        count,
        2,
        squeeze=False,
        figsize=(11, (1 + 0.36 * len(rows)) * count),
        sharey=True,
        layout='constrained',
    )
    places = range(len(rows))
    for metric, (left, right) in zip(study.metrics, grid, strict=True):
        for place, row in zip(places, rows, strict=True):
            values = row['values'][metric.name]
            left.plot(
                list(values.values()),
                [place] * len(values),
                'o',
                markerfacecolor='none',
                markeredgecolor='0.35',
                markersize=6,
            )
            mean, _ = summarise(list(values.values()))
            left.plot(mean, place, '|', color='0', markersize=16, mew=2)
            reference = trained[row['variant'].reference]
            if row is reference:
                continue
            other = reference['values'][metric.name]
            compared = compare(values, other)
            if compared is None:
                continue
            right.plot(
                [values[s] - other[s] for s in values if s in other],
                [place] * compared[2],
                'o',
                markerfacecolor='none',
                markeredgecolor='0.35',
                markersize=6,
            )
            right.errorbar(
                compared[0],
                place,
                xerr=compared[1],
                fmt='|',
                color='0',
                markersize=16,
                mew=2,
                capsize=4,
            )
        left.set_yticks(places, [row['label'] for row in rows])
        left.set_xlabel(metric.label)
        right.axvline(0, color='0.6', linestyle='--', linewidth=1)
        unit = ', '.join(metric.label.split(', ')[1:])
        name = metric.label.split(', ')[0]
        right.set_xlabel(
            f'difference of {name}' + (f', {unit} points' if unit else '')
        )
        for axes in (left, right):
            axes.grid(alpha=0.3)
    grid[0][0].invert_yaxis()
    grid[0][0].set_title('each seed, and the mean')
    grid[0][1].set_title('to the reference by seed, mean and 95 % interval')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix('.png'), dpi=110)
    # without the date, so that the same records give the same file
    figure.savefig(out.with_suffix('.pdf'), metadata=dict(CreationDate=None))
    plt.close(figure)
    return True


def replace_table(page, study, table):
    """Puts the table of a study into a page.

    Args:
        page (str): Text with a line ``<!-- study: NAME -->`` and, behind it,
            ``<!-- until here -->``.
        study (Study): The study.
        table (str): The table.

    Returns:
        str: The page.

    Raises:
        ValueError: If the page has no such lines.
    """
    begin, end = f'<!-- study: {study.name} -->\n', '<!-- until here -->\n'
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f'the page has no lines {begin!r} and {end!r}')
    return f'{before}{begin}\n{table}\n\n{end}{after}'


def main():
    args = parse_args()
    for path in args.studies:
        study = load_study(path)
        rows = collect_rows(study, read_records(args.results, study))
        table = format_table(study, rows)
        drawn = draw(study, rows, args.results / study.name / 'figure')
        if args.page is None:
            print(f'{study.title}\n\n{table}\n')
        else:
            page = args.page.read_text(encoding='utf-8')
            page = replace_table(page, study, table)
            args.page.write_text(page, encoding='utf-8')
        where = args.results / study.name
        print(f'figure: {where}/figure.png and .pdf' if drawn else 'no figure')


if __name__ == '__main__':
    main()
