"""Draws the runs of a study: each seed, means and differences."""

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from comparison import compare, summarise

MINUS = '\N{MINUS SIGN}'


def draw(metrics: list, rows: list, out: Path) -> bool:
    """Draws each seed as a dot, with mean and interval of the difference.

    Args:
        metrics: Of the study.
        rows: Of the table, with ``label``, ``evaluation``, ``values`` and
            ``reference``.
        out: Files to write, without suffix: PNG and PDF.

    Returns:
        Whether there was anything to draw.
    """
    rows = [row for row in rows if any(row.values.values())]
    if not rows:
        return False
    count = len(metrics)
    figure, grid = plt.subplots(
        count,
        2,
        squeeze=False,
        figsize=(11, (1.2 + 0.36 * len(rows)) * count),
        sharey=True,
        layout='constrained',
    )
    for metric, (left, right) in zip(metrics, grid, strict=True):
        values = [row.values[metric.name] for row in rows]
        far = _find_far(rows, values)
        for place, (row, own) in enumerate(zip(rows, values, strict=True)):
            if not own:
                continue
            dots = list(own.values())
            mean, _ = summarise(dots)
            _draw_row(left, place, mean, None, dots, far.get(place))
            other = (row.reference or {}).get(metric.name, {})
            compared = compare(own, other)
            if compared is not None:
                _draw_row(right, place, *compared, far.get(place))
        left.set_yticks(range(len(rows)), [row.label for row in rows])
        left.set_xlabel(metric.label)
        name, _, unit = metric.label.partition(', ')
        if unit:
            unit = ',\n' + ('percentage points' if unit == '%' else unit)
        right.set_xlabel(f'difference of {name}{unit}')
        right.axvline(0, color='0.6', linestyle='--', linewidth=1)
        for axes in (left, right):
            axes.grid(alpha=0.3)
    grid[0][0].set_ylim(len(rows) - 0.5, -0.5)
    grid[0][0].set_title('each seed and the mean')
    grid[0][1].set_title('difference by seed, 95 % interval')
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix('.png'), dpi=110)
    # without the date, so that the same records give the same file
    figure.savefig(out.with_suffix('.pdf'), metadata=dict(CreationDate=None))
    plt.close(figure)
    return True


def _find_far(rows, values):
    """Finds rows that would squeeze all others together, as failures do.

    Far is what is far from the trained networks, by their median; tests with
    other options may fail all together.

    Returns:
        dict[int, bool]: By place, whether the row is below the others.
    """
    trained = [
        value
        for row, own in zip(rows, values, strict=True)
        for value in own.values()
        if not row.evaluation
    ]
    centre = median(trained)
    spread = median(abs(x - centre) for x in trained) or 1
    means = {
        place: summarise(list(own.values()))[0]
        for place, own in enumerate(values)
        if own
    }
    return {
        place: mean < centre
        for place, mean in means.items()
        if abs(mean - centre) > 8 * spread
    }


def _draw_row(axes, place, mean, half, dots, below):
    """Draws dots, mean and interval; of what is far, the mean at the edge."""
    if below is not None:
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
        return
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
