"""Draws how BA²M weighs the images of a batch, and where it looks.

Runs a network once on a batch of a config's images, weighted over that batch
as in training. For each BA²M module there is one page: the images in the
order of their weight, each with the three attention maps that its SAR comes
from. Writes PNG and PDF, and the numbers as CSV.
"""

import argparse
import csv
import os
import re
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import numpy as np
import torch
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from mmengine.config import DictAction
from mmengine.dataset import pseudo_collate
from mmengine.runner import set_random_seed

from mmba2m.config_files import merge_options
from mmba2m.engine.cli import run_main
from mmba2m.inspect import (
    Attention,
    build_dataset,
    collect_attention,
    load_network,
    read_trained,
)

COLUMNS = {
    'image': 'image',
    'channel': 'channel, 0 to 1',
    'local_spatial': 'local spatial',
    'global_spatial': 'global spatial',
}
ABOUT = """, sorted by SAR and so by weight
SAR: mean, over channels and positions, of the largest of the three maps.
Weight: N·softmax(SAR) over these N images, 1 on average."""
TILE, CAPTION, MARGINS = 1.3, 0.25, 1.8  # inches


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help='checkpoint file')
    add('--out', required=True, help='folder to write to')
    add('--num', type=int, default=16, help='images, 16 by default')
    add('--seed', type=int, default=0, help='which images, 0 by default')
    kwargs = dict(choices=['train', 'val', 'test'], default='test')
    text = 'whose images, test by default; of train as augmented'
    add('--split', help=text, **kwargs)
    text = 'modules to draw, e.g. layer2.ba2m, or all; by default the last '
    text += 'one of each stage'
    add('--modules', nargs='+', metavar='NAME', help=text)
    kwargs = dict(nargs='+', action=DictAction, metavar='KEY=VALUE')
    add('--cfg-options', help='settings that override the config', **kwargs)
    args = parser.parse_args()
    if args.num < 2:
        parser.error(f'--num {args.num}: weights compare two images at least')
    return args


def load_batch(dataset, num, seed):
    """Loads images drawn at random, by the seed of random transforms, too."""
    set_random_seed(seed)
    chosen = np.random.permutation(len(dataset))[:num]
    return [dataset[int(index)] for index in chosen]


def choose_modules(names, wanted=None):
    """Chooses modules by the ends of names, or the last of each stage."""
    if wanted is None:  # up to the first number, a name says which stage
        stages = {re.match(r'\D*\d*', name)[0]: name for name in names}
        return list(stages.values())
    ends = ('',) if list(wanted) == ['all'] else tuple(wanted)
    chosen = [name for name in names if name.endswith(ends)]
    if not chosen:
        raise ValueError(f'the BA2M modules are {names}, not {wanted}')
    return chosen


def to_picture(raw: torch.Tensor, bgr: bool) -> np.ndarray:
    """Makes an RGB picture, (H, W, 3), 0 to 1, of what a network gets.

    That has shape (C, H, W), and perhaps its channels as blue, green, red.
    """
    picture = raw.permute(1, 2, 0).float().numpy()
    # what is not uint8 is normalised in the pipeline, by whatever numbers
    picture = picture / 255 if raw.dtype == torch.uint8 else stretch(picture)
    if bgr:
        picture = picture[..., ::-1]
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def stretch(values):
    return (values - values.min()) / max(np.ptp(values), 1e-6)


def tabulate(
    attention: Attention, samples: list, classes: list[str] | None
) -> list[dict]:
    """Makes a row of numbers of each of N images, the largest weight first.

    Args:
        attention: Of a module.
        samples: The N data samples.
        classes: Of the data set.
    """
    order = attention.sar.argsort(descending=True, stable=True).tolist()
    rows = []
    for rank, index in enumerate(order, 1):
        row = dict(module=attention.name, rank=rank, index=index)
        row['weight'] = attention.weights[index].item()
        row['sar'] = attention.sar[index].item()
        for branch in list(COLUMNS)[1:]:
            maps = getattr(attention, branch)
            mean = None if maps is None else maps[index].mean().item()
            row[f'mean_{branch}'] = mean
        row['image'] = samples[index].get('img_path', '')
        labels = getattr(samples[index], 'gt_label', torch.tensor([]))
        names = [classes[i] if classes else str(i) for i in labels.tolist()]
        row['label'] = ', '.join(names)
        rows.append(row)
    return rows


def draw(
    attention: Attention,
    rows: list[dict],
    pictures: list[np.ndarray],
    padded: tuple[int, int],
    subtitle: str,
) -> Figure:
    """Draws the page of a module.

    Args:
        attention: Of the module, for N images.
        rows: What :func:`tabulate` makes of it.
        pictures: The N images, (H, W, 3) each.
        padded: Height and width that the images were padded to, which the
            maps cover.
        subtitle: Of which network and images.
    """
    columns = [c for c in COLUMNS if getattr(attention, c, 0) is not None]
    count, half = len(columns), -(-len(rows) // 2)
    ratio = max(p.shape[0] / p.shape[1] for p in pictures)
    tile = TILE * np.clip(ratio, 0.4, 1.5) + CAPTION  # height of a row
    size = (TILE * (2 * count + 1), half * tile + MARGINS)
    figure = Figure(size, layout='constrained')
    widths = dict(width_ratios=[1] * count + [0.2] + [1] * count)
    axes = figure.subplots(half, 2 * count + 1, squeeze=False, **widths)
    title = f'{attention.name}   {attention.note}\n{subtitle}'
    figure.suptitle(title, x=0.02, ha='left', size=9)
    for axis in axes.flat:
        axis.set(xticks=(), yticks=(), visible=False)
    for place, row in enumerate(rows):
        side, line = divmod(place, half)
        own = axes[line, side * (count + 1) :][:count]
        index = row['index']
        height, width = pictures[index].shape[:2]
        caption = (
            f'{row["rank"]}.  weight {row["weight"]:.3f}'
            f'   SAR {row["sar"]:.3f}   {row["label"]}'
        )
        own[0].set_title(caption, loc='left', size=8.5)
        for axis, column in zip(own, columns, strict=True):
            axis.set(visible=True, box_aspect=height / width)
            if place in (half - 1, len(rows) - 1):
                axis.set_xlabel(COLUMNS[column], size=8)
            if column == 'image':
                axis.imshow(pictures[index])
            elif column == 'channel':
                draw_channels(axis, attention.channel, index)
            else:
                maps = getattr(attention, column)[index]
                colours = draw_map(axis, pictures[index], maps, padded)
    if count > 1 + (attention.channel is not None):
        look = dict(location='bottom', shrink=0.3, aspect=40)
        bar = figure.colorbar(colours, ax=axes, **look)
        bar.set_label('spatial: sigmoid of attention, 0 to 1', size=8)
        bar.ax.set_facecolor('0.5')  # as behind the maps
    return figure


def draw_channels(axis, channel, index):
    """Draws the attention to each channel, in the order of batch means."""
    order = channel.mean(0).argsort(descending=True)
    values = channel[index][order].numpy()
    axis.stairs(values, fill=True, color='0.75')
    axis.stairs(values, color='0.2', linewidth=0.8, baseline=None)
    axis.axhline(0.5, color='0.5', linewidth=0.4)
    axis.set(xlim=(0, len(values)), ylim=(0, 1))


def draw_map(axis, picture, maps, padded):
    """Draws a spatial map over a pale grey image; its cells stay visible."""
    height, width = picture.shape[:2]
    grey = stretch(picture @ (0.299, 0.587, 0.114))
    extent = (0, width, height, 0)
    axis.imshow(grey, cmap='gray', vmin=-0.6, vmax=1.6, extent=extent)
    # of the padded input; what lies in the padding is cut off
    extent = (0, padded[1], padded[0], 0)
    look = dict(vmin=0, vmax=1, alpha=0.7, interpolation='nearest')
    colours = axis.imshow(maps.numpy(), extent=extent, **look)
    axis.set(xlim=(0, width), ylim=(height, 0))
    return colours


def main():
    args = parse_args()
    cfg, checkpoint = read_trained(args.config, args.checkpoint)
    merge_options(cfg, args.cfg_options)
    model = load_network(cfg, checkpoint, path=args.checkpoint)
    dataset = build_dataset(cfg, args.split)
    batch = load_batch(dataset, args.num, args.seed)
    if len(batch) < 2:
        raise ValueError(f'the {args.split} set has {len(batch)} image')

    inputs = model.data_preprocessor(pseudo_collate(batch), False)['inputs']
    collected = collect_attention(model, inputs)
    # from files, images are BGR; arrays, as CIFAR's, are RGB
    bgr = 'LoadImage' in str(cfg[f'{args.split}_dataloader'].dataset)
    pictures = [to_picture(one['inputs'], bgr) for one in batch]
    samples = [one['data_samples'] for one in batch]
    subtitle = f'{args.checkpoint}: {len(batch)} {args.split} images{ABOUT}'
    out, table = Path(args.out), []
    chosen = choose_modules(list(collected), args.modules)
    out.mkdir(parents=True, exist_ok=True)
    with PdfPages(out / 'weights.pdf') as pdf:
        for name in chosen:
            one = collected[name]
            rows = tabulate(one, samples, dataset.metainfo.get('classes'))
            page = draw(one, rows, pictures, inputs.shape[-2:], subtitle)
            page.savefig(out / f'{name}.png', dpi=100)
            pdf.savefig(page)
            table += rows
            low, high = one.weights.min(), one.weights.max()
            note = f' {one.note}' if one.note else ''
            print(f'{name}: weights {low:.3f} to {high:.3f}{note}')
    with open(out / 'weights.csv', 'w', newline='') as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)
    print(f'pages: {args.out}')


if __name__ == '__main__':
    run_main(main)
