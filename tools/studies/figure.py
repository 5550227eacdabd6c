"""Draws the runs of a study: each seed, means and differences."""

from pathlib import Path
from statistics import median

from comparison import compare, summarise
from matplotlib.figure import Figure

MINUS = '\N{MINUS SIGN}'


def draw(metrics: list, rows: list, out: Path) -> Figure | None:
    """Draws each seed as a dot, with mean and interval of the difference.

    Args:
        metrics: Of the study.
        rows: Of the table, see report.py.
        out: The PNG to write.

    Returns:
        The figure, or None where there is nothing to draw.
    """
    rows = [row for row in rows if any(row.values.values())]
    if not rows:
        return None
    count = len(metrics)
    size = 11, (1.2 + 0.36 * len(rows)) * count
    figure = Figure(size, layout='constrained')
    grid = figure.subplots(count, 2, squeeze=False, sharey=True)
    for metric, (left, right) in zip(metrics, grid, strict=True):
        values = [row.values[metric.name] for row in rows]
        centre, spread = _find_spread(rows, values)
        for place, (row, own) in enumerate(zip(rows, values, strict=True)):
            if not own:
                continue
            dots = list(own.values())
            mean = summarise(dots)[0]
            below = _is_below(mean - centre, spread)
            _draw_row(left, place, mean, None, dots, below)
            other = (row.reference or {}).get(metric.name, {})
            compared = compare(own, other)
            if compared is not None:
                below = _is_below(compared[0], spread)
                _draw_row(right, place, *compared, below)
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
    figure.savefig(out, dpi=110)
    return figure


def _find_spread(rows, values):
    """Finds the median of the trained networks, and of the distances to it.

    Tests with other options may fail all together, and do not count.
    """
    pairs = zip(rows, values, strict=True)
    trained = [
        x for row, own in pairs if not row.evaluation for x in own.values()
    ]
    centre = median(trained)
    return centre, median(abs(x - centre) for x in trained) or 1


def _is_below(distance, spread):
    """Where what would squeeze all others together is, as failures; or None.

    True below the others, False above them, None among them.
    """
    return distance < 0 if abs(distance) > 8 * spread else None


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
    look = dict(markerfacecolor='none', markeredgecolor='0.35', markersize=6)
    axes.plot(dots, [place] * len(dots), 'o', **look)
    look = dict(fmt='|', color='0', markersize=16, mew=2)
    axes.errorbar(mean, place, xerr=half, capsize=4 if half else 0, **look)
