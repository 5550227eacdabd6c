"""How time and memory of one module grow with the pixels of the image."""

import math

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np

from .report import KINDS, describe_environment, describe_options
from .timing import median_interval


def list_sizes(first, last):
    """Lists image sizes in steps of √2: of pixels in steps of 2.

    Args:
        first (int): The smallest.
        last (int): The largest, which is listed whatever the steps.

    Returns:
        list[int]: Heights and widths of square images.

    Raises:
        ValueError: If there are not two sizes.
    """
    if not 0 < first < last:
        raise ValueError(f'sizes must grow, got {first} to {last}')
    steps = math.ceil(2 * math.log2(last / first))
    return [*(round(first * 2 ** (i / 2)) for i in range(steps)), last]


def fit_exponent(pixels, costs):
    """Fits b in cost = a · pixels^b, by least squares of the logarithms.

    Args:
        pixels (Sequence[float]): Of each size.
        costs (Sequence[float]): Seconds or bytes.

    Returns:
        float: The exponent; 1 is growth in proportion.
    """
    return float(np.polyfit(np.log(pixels), np.log(costs), 1)[0])


def fit_rounds(pixels, seconds):
    """Fits an exponent in each round.

    Args:
        pixels (Sequence[float]): Of each size.
        seconds (Sequence[Sequence[float]]): For each size, one per round.

    Returns:
        tuple[float, float, float]: Median of the exponents and the ends of
        its interval, see :func:`median_interval`.
    """
    rounds = zip(*seconds, strict=True)
    return median_interval([fit_exponent(pixels, costs) for costs in rounds])


def _list_curves(run):
    """Yields what is fitted: label, pixels, ms, MiB and both exponents."""
    pixels = [size**2 for size in run['sizes']]
    for curve in run['curves']:
        seconds = list(curve['seconds'].values())
        peaks = list(curve['peak_bytes'].values())
        yield (
            f'{KINDS[curve["kind"]]}, stage {curve["stage"]}',
            pixels,
            [median_interval(times)[0] * 1000 for times in seconds],
            [peak / 2**20 for peak in peaks],
            fit_rounds(pixels, seconds),
            fit_exponent(pixels, peaks),
        )


def format_scaling(runs):
    """Writes a Markdown table for each run.

    Args:
        runs (Sequence[dict]): As benchmark_backbone.py saves them.

    Returns:
        str: Time and memory of each size, and the exponents, each table
        below a line that says how it was measured.
    """
    return '\n\n'.join(_format_run(run) for run in runs) + '\n'


def _format_run(run):
    head = ['', *map(_name_size, run['sizes']), 'exponent']
    lines = [head, [':--', *['--:'] * (len(head) - 1)]]
    for label, _, times, peaks, (exponent, low, high), memory in _list_curves(
        run
    ):
        lines += [
            [
                f'{label}: time [ms]',
                *(f'{value:.4g}' for value in times),
                f'{exponent:.3f} ({low:.3f}–{high:.3f})',
            ],
            [
                f'{label}: peak memory [MiB]',
                *(f'{value:.4g}' for value in peaks),
                f'{memory:.3f}',
            ],
        ]
    return '\n'.join(
        [
            f'{run["module"]} alone, batch {run["batch"]}, '
            f'{describe_options(run)} ({describe_environment(run)}).',
            '',
            *(f'| {" | ".join(line)} |' for line in lines),
        ]
    )


def _name_size(size):
    return f'{size}²'


def draw_scaling(runs, out):
    """Draws time and memory over pixels, a row for each run.

    Args:
        runs (Sequence[dict]): As in :func:`format_scaling`.
        out (str | Path): File to write, PNG or PDF.
    """
    figure, axes = plt.subplots(
        len(runs),
        2,
        figsize=(10, 4 * len(runs)),
        layout='constrained',
        squeeze=False,
    )
    for (left, right), run in zip(axes, runs, strict=True):
        for index, curve in enumerate(_list_curves(run)):
            label, pixels, times, peaks, (exponent, *_), memory = curve
            look = dict(
                color=str(0.15 * (index % 5)),
                marker='os^vDx+*'[index % 8],
                markersize=4,
                linestyle=('-', '--', ':', '-.')[index % 4],
            )
            name = f'{label}: pixels$^{{{exponent:.2f}}}$'
            left.loglog(pixels, times, label=name, **look)
            name = f'{label}: pixels$^{{{memory:.2f}}}$'
            right.loglog(pixels, peaks, label=name, **look)
        left.set_ylabel('time [ms]')
        right.set_ylabel('peak memory [MiB]')
        left.set_title(f'{run["module"]} alone, {describe_options(run)}')
        for axis in (left, right):
            axis.minorticks_off()
            names = [_name_size(size) for size in run['sizes']]
            axis.set_xticks(pixels, names, rotation=90)
            axis.set_xlabel('image size [pixels]')
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
    figure.savefig(out, dpi=120)
    plt.close(figure)
