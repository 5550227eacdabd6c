"""Makes table and figure of a study from its records.

The table is printed, or written into a page between two lines that name the
study. The figure goes beside the records, as PNG and PDF.
"""

import argparse
import os
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from comparison import compare, summarise
from study import ROOT, describe_training, load_study, read_records

from mmba2m.inspect.pages import replace_section

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
        figsize=(11, (1.2 + 0.36 * len(rows)) * count),
        sharey=True,
        layout='constrained',
    )
    for metric, (left, right) in zip(study.metrics, grid, strict=True):
        means, differences = [], []
        for row in rows:
            values = row['values'][metric.name]
            dots = list(values.values())
            means.append((row, dots, summarise(dots)[0] if dots else None, 0))
            reference = trained[row['variant'].reference]
            other = reference['values'][metric.name]
            compared = compare(values, other)
            if row is reference or compared is None:
                differences.append((row, [], None, 0))
                continue
            dots = [
                values[seed] - other[seed] for seed in values if seed in other
            ]
            differences.append((row, dots, *compared[:2]))
        far = _find_far(means)
        _draw_dots(left, means, far)
        _draw_dots(right, differences, far)
        left.set_yticks(range(len(rows)), [row['label'] for row in rows])
        left.set_xlabel(metric.label)
        right.axvline(0, color='0.6', linestyle='--', linewidth=1)
        name, _, unit = metric.label.partition(', ')
        if unit == '%':
            unit = 'percentage points'
        right.set_xlabel(
            f'difference of {name}' + (f',\n{unit}' if unit else '')
        )
    grid[0][0].set_ylim(len(rows) - 0.5, -0.5)
    grid[0][0].set_title('each seed and the mean')
    grid[0][1].set_title('difference by seed, 95 % interval')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix('.png'), dpi=110)
    # without the date, so that the same records give the same file
    figure.savefig(out.with_suffix('.pdf'), metadata=dict(CreationDate=None))
    plt.close(figure)
    return True


def _find_far(lines):
    """Finds rows that would squeeze all others together, as failures do.

    Far is what is far from the trained networks, by their median; tests with
    other options may fail all together.

    Returns:
        dict[int, bool]: By place, whether the row is below the others.
    """
    trained = [
        x for row, dots, *_ in lines if not row['evaluation'] for x in dots
    ]
    if not trained:
        return {}
    centre = median(trained)
    spread = median(abs(x - centre) for x in trained) or 1
    return {
        place: mean < centre
        for place, (_, dots, mean, _) in enumerate(lines)
        if dots and abs(mean - centre) > 8 * spread
    }


def _draw_dots(axes, lines, far):
    """Draws rows of dots, each with its mean and half of its interval.

    Of what is far, the mean stands at the edge.
    """
    for place, (_, dots, mean, half) in enumerate(lines):
        if not dots:
            continue
        if place in far:
            below = far[place]
            text = f'{mean:.1f}'.replace('-', MINUS)
            axes.annotate(
                f'← {text}' if below else f'{text} →',
                (0 if below else 1, place),
                xycoords=axes.get_yaxis_transform(),
                xytext=(4 if below else -4, 0),
                textcoords='offset points',
                ha='left' if below else 'right',
                va='center',
            )
            continue
        axes.plot(
            dots,
            [place] * len(dots),
            'o',
            markerfacecolor='none',
            markeredgecolor='0.35',
            markersize=6,
        )
        axes.errorbar(
            mean,
            place,
            xerr=half,
            fmt='|',
            color='0',
            markersize=16,
            mew=2,
            capsize=4 if half else 0,
        )
    axes.grid(alpha=0.3)


def format_section(study, rows, folder):
    """Writes what a page has of a study: the table, and the figure.

    Args:
        study (Study): The study.
        rows (list[dict]): From :func:`collect_rows`.
        folder (str): Of the figure, relative to the page.

    Returns:
        str: Markdown; no figure where there is no record.
    """
    table = format_table(study, rows)
    if not any(any(row['values'].values()) for row in rows):
        return table
    return f'{table}\n\n![{study.title}: each seed]({folder}/figure.png)'


def main():
    args = parse_args()
    for path in args.studies:
        study = load_study(path)
        rows = collect_rows(study, read_records(args.results, study))
        folder = args.results / study.name
        drawn = draw(study, rows, folder / 'figure')
        if args.page is None:
            print(f'{study.title}\n\n{format_table(study, rows)}\n')
        else:
            relative = os.path.relpath(folder, args.page.parent)
            section = format_section(study, rows, Path(relative).as_posix())
            page = args.page.read_text(encoding='utf-8')
            begin = f'<!-- study: {study.name} -->'
            page = replace_section(page, begin, section)
            args.page.write_text(page, encoding='utf-8')
        if drawn:
            print(f'figure: {folder}/figure.png and .pdf')
        else:
            print(f'{study.name} has no records yet')


if __name__ == '__main__':
    main()
