"""Tables and pictures of two runs side by side."""

import json
import math
from pathlib import Path

from matplotlib.figure import Figure


def compare(task, samples, labels):
    """Compares two runs.

    Args:
        task (DetectionTask | ClassificationTask): What is compared.
        samples (Sequence[list[dict]]): The predictions of each run, in the
            order of the images.
        labels (Sequence[str]): A name for each run.

    Returns:
        dict: For JSON: ``labels``, ``metric``, ``all`` (both runs and the
        difference, second minus first), ``classes`` and ``images``, each
        with the largest difference first. NaN is None.
    """
    (first, firsts), (second, seconds) = map(task.evaluate, samples)
    classes = [
        dict(name=name, count=int(count), **_subtract(*values))
        for name, count, *values in zip(
            task.classes, task.counts, firsts, seconds, strict=True
        )
    ]
    images = [
        dict(
            id=image['id'],
            index=index,
            file=Path(image.get('img_path') or '').name,
            **_subtract(*values),
        )
        for index, (image, *values) in enumerate(
            zip(task.images, *map(task.measure_images, samples), strict=True)
        )
    ]
    return dict(
        labels=list(labels),
        metric=task.name,
        counted=task.counted,
        unit=task.unit,
        all=dict(count=int(task.counts.sum()), **_subtract(first, second)),
        classes=sorted(classes, key=_rank, reverse=True),
        image_measure=task.measure,
        images=sorted(images, key=lambda one: -abs(one['difference'])),
    )


def _subtract(first, second):
    values = dict(first=first, second=second, difference=second - first)
    return {k: None if math.isnan(v) else v for k, v in values.items()}


def _rank(one):
    known = one['difference'] is not None
    return known, one['difference'] if known else 0


def format_table(report):
    """Writes the table of the classes.

    Args:
        report (dict): From :func:`compare`.

    Returns:
        str: Markdown.
    """
    digits = _digits(report)

    def row(one, name):
        values = [one[key] for key in ('first', 'second', 'difference')]
        if None in values:
            cells = ['–'] * 3
        else:
            cells = [f'{value:.{digits}f}' for value in values[:2]]
            cells += [f'{values[2]:+.{digits}f}']
        return f'| {" | ".join([name, str(one["count"]), *cells])} |'

    metric = f'{report["metric"]} {report["unit"]}'
    heads = ['class', report['counted']]
    heads += [f'{metric}, {label}' for label in report['labels']]
    lines = [f'| {" | ".join([*heads, "difference"])} |']
    lines += ['| --- | --: | --: | --: | --: |']
    lines += [row(one, one['name']) for one in report['classes']]
    lines += [row(report['all'], 'all')]
    return '\n'.join(lines) + '\n'


def _digits(report):
    return 2 if report['unit'] == '[%]' else 3


def draw_classes(report, limit):
    """Draws the values of each class, the largest gain on top.

    Args:
        report (dict): From :func:`compare`.
        limit (int): Classes at most: those that differ most.

    Returns:
        Figure: Of matplotlib.
    """
    known = [c for c in report['classes'] if c['difference'] is not None]
    chosen = sorted(known, key=lambda one: -abs(one['difference']))[:limit]
    rows = [dict(report['all'], name='all')]
    rows += [one for one in reversed(known) if one in chosen]
    figure = Figure(figsize=(7, 0.3 * len(rows) + 1.5), layout='constrained')
    axis = figure.subplots()
    for y, row in enumerate(rows):
        ends = row['first'], row['second']
        axis.plot(ends, (y, y), '-', color='0.6', linewidth=2, zorder=1)
        axis.text(
            1.01,
            y,
            f'{row["difference"]:+.{_digits(report)}f}',
            transform=axis.get_yaxis_transform(),
            va='center',
            fontsize=8,
        )
    for key, marker, filled in (('first', 'o', False), ('second', 's', True)):
        axis.plot(
            [row[key] for row in rows],
            range(len(rows)),
            marker,
            color='#0b3c6f',
            markerfacecolor='#0b3c6f' if filled else 'white',
            label=report['labels'][filled],
        )
    axis.axhline(0.5, color='0.6', linewidth=0.8)
    axis.set_yticks(
        range(len(rows)), [f'{row["name"]} ({row["count"]})' for row in rows]
    )
    axis.set(
        xlabel=f'{report["metric"]} {report["unit"]}; on the right: second '
        'minus first',
        ylabel=f'class ({report["counted"]})',
        ylim=(-0.6, len(rows) - 0.4),
    )
    if len(chosen) < len(known):
        axis.set_title(
            f'the {len(chosen)} of {len(known)} classes that differ most',
            fontsize=9,
        )
    axis.grid(axis='x', alpha=0.3)
    figure.legend(loc='outside upper center', ncols=2)
    return figure


def draw_images(task, samples, report, num):
    """Draws the images on which two runs differ most.

    Args:
        task (DetectionTask | ClassificationTask): What is compared.
        samples (Sequence[list[dict]]): As in :func:`compare`.
        report (dict): From it.
        num (int): Images at most; those with no difference are left out.

    Returns:
        Figure | None: Of matplotlib, None where no image differs.
    """
    chosen = [one for one in report['images'] if one['difference']][:num]
    if not chosen:
        return None
    columns = 4 if task.columns == 1 else task.columns
    rows = -(-len(chosen) * task.columns // columns)
    height = 3.2 if task.columns == 1 else 3
    figure = Figure(figsize=(12, rows * height + 0.4), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis('off')
    for place, one in enumerate(chosen):
        index = one['index']
        task.draw(
            axes[place * task.columns : (place + 1) * task.columns],
            index,
            [run[index] for run in samples],
            report['labels'],
        )
    figure.suptitle(
        f'largest difference in {task.measure}; {task.explain()}', fontsize=10
    )
    return figure


def write_report(report, figures, out):
    """Writes everything into a folder.

    Args:
        report (dict): From :func:`compare`.
        figures (dict[str, Figure]): By the stem of their files.
        out (Path): The folder.
    """
    (out / 'per_class.md').write_text(format_table(report), encoding='utf-8')
    (out / 'compare.json').write_text(
        json.dumps(report, indent=1, ensure_ascii=False), encoding='utf-8'
    )
    for name, figure in figures.items():
        for suffix in ('png', 'pdf'):
            figure.savefig(out / f'{name}.{suffix}', dpi=150)
